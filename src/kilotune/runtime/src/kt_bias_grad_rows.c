#include "kt_kernels.h"

/* gradient (o) += scale (o) * sum of dy (n,o) over rows; scale NULL: 1. */
void kt_bias_grad_rows(const float *dy, const float *scale, float *gradient, int o, int n)
{
    for (int row = 0; row < n; row++, dy += o) {
        for (int i = 0; i < o; i++) {
            gradient[i] = KT_FMA(gradient[i], scale ? scale[i] : 1.0f, dy[i]);
        }
    }
}
