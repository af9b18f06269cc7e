#include "kt_kernels.h"

/* dx (c,n) = scale (c) * dy (c,n); with add: added to dx. */
void kt_channel_affine_grad(const float *dy, const float *scale, float *dx, int c, int n, int add)
{
    for (int i = 0; i < c * n; i++) {
        dx[i] = add ? KT_FMA(dx[i], scale[i / n], dy[i]) : scale[i / n] * dy[i];
    }
}
