#include "kt_kernels.h"
#include "kt_vec.h"

/* A row is summed in four lanes, pixel p in lane p % 4, added as (0 + 1) + (2 + 3). */
static inline float finish(kt_quad s, const float *dy, int p, int n)
{
    const float rest[3] = {p < n ? dy[p] : 0.0f, p + 1 < n ? dy[p + 1] : 0.0f, p + 2 < n ? dy[p + 2] : 0.0f};
    return ((KT_LANE(s, 0) + rest[0]) + (KT_LANE(s, 1) + rest[1])) + ((KT_LANE(s, 2) + rest[2]) + KT_LANE(s, 3));
}

/* As many rows at once as have their sums in registers: a sum alone waits for itself. */
#if KT_VECTORS
#define ROWS 8
#else
#define ROWS 4
#endif

KT_INLINE void sums(const float *dy, int rows, int n, float *to)
{
    kt_quad s[ROWS];
    int p = 0;
    for (int r = 0; r < rows; r++) {
        s[r] = kt_quad_all(0.0f);
    }
    for (; p + 4 <= n; p += 4) {
        for (int r = 0; r < rows; r++) {
            s[r] = kt_quad_add(s[r], kt_quad_take(dy + r * n + p, 1));
        }
    }
    for (int r = 0; r < rows; r++) {
        to[r] = finish(s[r], dy + r * n, p, n);
    }
}

/* gradient (o) += scale (o) * sum of dy (o,n) over pixels; scale NULL: 1. */
void kt_bias_grad(const float *dy, const float *scale, float *gradient, int o, int n)
{
    for (int i = 0, rows; i < o; i += rows, dy += rows * n) {
        float to[ROWS];
        rows = o - i >= ROWS ? ROWS : 1;
        if (rows == ROWS) {
            sums(dy, ROWS, n, to);
        } else {
            sums(dy, 1, n, to);
        }
        for (int r = 0; r < rows; r++) {
            gradient[i + r] = KT_FMA(gradient[i + r], scale ? scale[i + r] : 1.0f, to[r]);
        }
    }
}
