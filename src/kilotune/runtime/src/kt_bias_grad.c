#include "kt_kernels.h"

/* gradient (o) += scale (o) * sum of dy (o,n) over pixels; scale NULL: 1. */
void kt_bias_grad(const float *dy, const float *scale, float *gradient, int o, int n)
{
    for (int i = 0; i < o; i++, dy += n) {
        float s[4] = {0, 0, 0, 0};
        for (int p = 0; p < n; p++) {
            s[p & 3] += dy[p];
        }
        gradient[i] = KT_FMA(gradient[i], scale ? scale[i] : 1.0f, (s[0] + s[1]) + (s[2] + s[3]));
    }
}
