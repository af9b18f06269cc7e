#include "kt_kernels.h"

/* dx = scale * dy; with add: added to dx. */
void kt_affine_grad(const float *dy, float *dx, int n, float scale, int add)
{
    for (int i = 0; i < n; i++) {
        dx[i] = add ? KT_FMA(dx[i], scale, dy[i]) : scale * dy[i];
    }
}
