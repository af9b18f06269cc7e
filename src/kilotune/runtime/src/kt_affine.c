#include "kt_kernels.h"

/* y = scale * x + shift, two roundings; y may be x. */
void kt_affine(const float *x, float *y, int n, float scale, float shift)
{
    for (int i = 0; i < n; i++) {
        const float product = scale * x[i];
        y[i] = product + shift;
    }
}
