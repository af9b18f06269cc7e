#include "kt_kernels.h"

/* y = x where x > 0, else slope * x. */
void kt_leaky_relu(const float *x, float *y, int n, float slope)
{
    for (int i = 0; i < n; i++) {
        y[i] = x[i] > 0.0f ? x[i] : slope * x[i];
    }
}
