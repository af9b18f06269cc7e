#include "kt_kernels.h"

/* Sums over pixels run in four lanes, pixel p in lane p % 4, added as (0 + 1) + (2 + 3); on every processor. */
static float dot(const float *restrict a, const float *restrict b, int n)
{
    float s[4] = {0, 0, 0, 0};
    int p = 0;
    for (; p + 4 <= n; p += 4) {
        for (int l = 0; l < 4; l++) {
            s[l] = KT_FMA(s[l], a[p + l], b[p + l]);
        }
    }
    for (; p < n; p++) {
        s[p & 3] = KT_FMA(s[p & 3], a[p], b[p]);
    }
    return (s[0] + s[1]) + (s[2] + s[3]);
}

/* gradient (count,o) += scale (o) * kept (count,h,w) dy (o,h,w)^T; scale NULL: 1. */
void kt_pointwise_weight_grad(const kt_conv *g, const kt_slice *slice, const float *dy, const float *scale)
{
    const int n = g->h * g->w;
    for (int k = 0; k < slice->count; k++) {
        float *const gradient = slice->gradient + k * g->o;
        for (int o = 0; o < g->o; o++) {
            gradient[o] = KT_FMA(gradient[o], scale ? scale[o] : 1.0f, dot(slice->kept + k * n, dy + o * n, n));
        }
    }
}
