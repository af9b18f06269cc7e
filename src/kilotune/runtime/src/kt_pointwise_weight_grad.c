#include "kt_kernels.h"

/* Sums over pixels run in four lanes, pixel p in lane p % 4, added as (0 + 1) + (2 + 3); on every processor. sums (rows) of products
   of a (n) with rows of b (rows, n); rows is a constant where this is called. */
static inline void dots(int rows, const float *restrict a, const float *restrict b, int n, float *restrict sums)
{
    float s[4][4] = {{0}};
    int p = 0;
    for (; p + 4 <= n; p += 4) {
        for (int r = 0; r < rows; r++) {
            for (int l = 0; l < 4; l++) {
                s[r][l] = KT_FMA(s[r][l], a[p + l], b[r * n + p + l]);
            }
        }
    }
    for (; p < n; p++) {
        for (int r = 0; r < rows; r++) {
            s[r][p & 3] = KT_FMA(s[r][p & 3], a[p], b[r * n + p]);
        }
    }
    for (int r = 0; r < rows; r++) {
        sums[r] = (s[r][0] + s[r][1]) + (s[r][2] + s[r][3]);
    }
}

/* gradient (count,o) += scale (o) * kept (count,h,w) dy (o,h,w)^T; scale NULL: 1. */
void kt_pointwise_weight_grad(const kt_conv *g, const kt_slice *slice, const float *dy, const float *scale)
{
    const int n = g->h * g->w;
    for (int k = 0; k < slice->count; k++) {
        float *const gradient = slice->gradient + k * g->o;
        for (int o = 0, rows; o < g->o; o += rows) {
            float sums[4];
            rows = g->o - o >= 4 ? 4 : 1;
            if (rows == 4) {
                dots(4, slice->kept + k * n, dy + o * n, n, sums);
            } else {
                dots(1, slice->kept + k * n, dy + o * n, n, sums);
            }
            for (int r = 0; r < rows; r++) {
                gradient[o + r] = KT_FMA(gradient[o + r], scale ? scale[o + r] : 1.0f, sums[r]);
            }
        }
    }
}
