#include "kt_kernels.h"

/* y = 0. */
void kt_zero(float *y, int n)
{
    for (int i = 0; i < n; i++) {
        y[i] = 0.0f;
    }
}
