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
#define MOST 8
static void most_rows(const float *dy, int n, float *to)
{
    kt_quad s[MOST];
    int p = 0;
    for (int r = 0; r < MOST; r++) {
        s[r] = kt_quad_all(0.0f);
    }
    for (; p + 4 <= n; p += 4) {
        for (int r = 0; r < MOST; r++) {
            s[r] = kt_quad_add(s[r], kt_quad_take(dy + r * n + p, 1));
        }
    }
    for (int r = 0; r < MOST; r++) {
        to[r] = finish(s[r], dy + r * n, p, n);
    }
}
#else
#define MOST 4
#define most_rows four_rows
#endif

static void four_rows(const float *dy, int n, float *to)
{
    kt_quad a = kt_quad_all(0.0f), b = a, c = a, d = a;
    int p = 0;
    for (; p + 4 <= n; p += 4) {
        a = kt_quad_add(a, kt_quad_take(dy + p, 1));
        b = kt_quad_add(b, kt_quad_take(dy + n + p, 1));
        c = kt_quad_add(c, kt_quad_take(dy + 2 * n + p, 1));
        d = kt_quad_add(d, kt_quad_take(dy + 3 * n + p, 1));
    }
    to[0] = finish(a, dy, p, n);
    to[1] = finish(b, dy + n, p, n);
    to[2] = finish(c, dy + 2 * n, p, n);
    to[3] = finish(d, dy + 3 * n, p, n);
}

static void one_row(const float *dy, int n, float *to)
{
    kt_quad a = kt_quad_all(0.0f);
    int p = 0;
    for (; p + 4 <= n; p += 4) {
        a = kt_quad_add(a, kt_quad_take(dy + p, 1));
    }
    *to = finish(a, dy, p, n);
}

/* gradient (o) += scale (o) * sum of dy (o,n) over pixels; scale NULL: 1. */
void kt_bias_grad(const float *dy, const float *scale, float *gradient, int o, int n)
{
    for (int i = 0, rows; i < o; i += rows, dy += rows * n) {
        float to[MOST];
        rows = o - i >= MOST ? MOST : o - i >= 4 ? 4 : 1;
        if (rows == MOST) {
            most_rows(dy, n, to);
        } else if (rows == 4) {
            four_rows(dy, n, to);
        } else {
            one_row(dy, n, to);
        }
        for (int r = 0; r < rows; r++) {
            gradient[i + r] = KT_FMA(gradient[i + r], scale ? scale[i + r] : 1.0f, to[r]);
        }
    }
}
