#include "kt_kernels.h"
#include "kt_line.h"

/* Sums run over the pixels from the first to the last, onto what the gradient holds: blocks of channels times outputs. */

#if KT_VECTORS
#define COLUMNS 48

/* to (depth, step): dy (rows,n), turned, times scale (rows). */
static void turn(const float *dy, const float *scale, int rows, int n, int depth, float *to, int step)
{
    kt_turn(dy, (size_t)n, rows, depth, to, step);
    for (int d = 0; d < depth && scale; d++) {
        for (int r = 0; r < rows; r++) {
            to[d * step + r] *= scale[r];
        }
    }
}

static void block(const kt_slice *slice, const float *panel, int o, int columns, int outputs, int n, int p, int depth)
{
    for (int k = 0, rows; k < slice->count; k += rows) {
        float tile[KT_TILE];
        rows = kt_rows(slice->count - k);
        kt_turn(slice->kept + k * n + p, (size_t)n, rows, depth, tile, rows);
        kt_line(rows, depth, slice->gradient + k * outputs + o, (size_t)outputs, panel, COLUMNS, tile, NULL, columns);
    }
}

/* The same where there are few outputs: channels are the columns then, and outputs the rows. */
static void few_outputs(const kt_slice *slice, const float *dy, const float *scale, int outputs, int n, int k, int columns)
{
    KT_AT_A_LINE float sums[KT_ROWS * COLUMNS];
    kt_turn(slice->gradient + k * outputs, (size_t)outputs, columns, outputs, sums, COLUMNS);
    for (int p = 0, depth; p < n; p += depth) {
        KT_AT_A_LINE float panel[KT_DEPTH * COLUMNS], tile[KT_TILE];
        depth = kt_depths(n - p);
        kt_turn(slice->kept + k * n + p, (size_t)n, columns, depth, panel, COLUMNS);
        for (int o = 0, rows; o < outputs; o += rows) {
            rows = kt_rows(outputs - o);
            turn(dy + o * n + p, scale ? scale + o : NULL, rows, n, depth, tile, rows);
            kt_line(rows, depth, sums + o * COLUMNS, COLUMNS, panel, COLUMNS, tile, NULL, columns);
        }
    }
    kt_turn(sums, COLUMNS, outputs, columns, slice->gradient + k * outputs, outputs);
}

static void many_outputs(const kt_slice *slice, const float *dy, const float *scale, int outputs, int n, int o, int columns)
{
    for (int p = 0, depth; p < n; p += depth) {
        KT_AT_A_LINE float panel[KT_DEPTH * COLUMNS];
        depth = kt_depths(n - p);
        turn(dy + o * n + p, scale ? scale + o : NULL, columns, n, depth, panel, COLUMNS);
        block(slice, panel, o, columns, outputs, n, p, depth);
    }
}

/* gradient (count,o) += kept (count,h,w) (scale (o) * dy (o,h,w))^T; scale NULL: 1. */
void kt_pointwise_weight_grad(const kt_conv *g, const kt_slice *slice, const float *dy, const float *scale)
{
    const int n = g->h * g->w, few = g->o < KT_ROWS, all = few ? slice->count : g->o;
    KT_SHARED
    for (int i = 0; i < all; i += COLUMNS) {
        const int columns = all - i < COLUMNS ? all - i : COLUMNS;
        if (few) {
            few_outputs(slice, dy, scale, g->o, n, i, columns);
        } else {
            many_outputs(slice, dy, scale, g->o, n, i, columns);
        }
    }
}

#else

/* Four channels of a (4,n) times four outputs of b (4,n) with their factors, onto y (4,ys). */
static void four_by_four(const float *a, const float *b, const float *factor, int n, float *y, int ys)
{
    const kt_quad factors = kt_quad_take(factor, 1);
    kt_quad a0 = kt_quad_take(y, 1), a1 = kt_quad_take(y + ys, 1), a2 = kt_quad_take(y + 2 * ys, 1), a3 = kt_quad_take(y + 3 * ys, 1);
    for (int p = 0; p < n; p++) {
        const kt_quad v = kt_quad_mul(factors, kt_quad_take(b + p, n));
        a0 = kt_quad_step(a0, a[p], v);
        a1 = kt_quad_step(a1, a[n + p], v);
        a2 = kt_quad_step(a2, a[2 * n + p], v);
        a3 = kt_quad_step(a3, a[3 * n + p], v);
    }
    kt_quad_put(y, 1, a0);
    kt_quad_put(y + ys, 1, a1);
    kt_quad_put(y + 2 * ys, 1, a2);
    kt_quad_put(y + 3 * ys, 1, a3);
}

static void one_by_one(const float *a, const float *b, float factor, int n, float *y)
{
    float sum = *y;
    for (int p = 0; p < n; p++) {
        sum = KT_FMA(sum, a[p], factor * b[p]);
    }
    *y = sum;
}

/* gradient (count,o) += kept (count,h,w) (scale (o) * dy (o,h,w))^T; scale NULL: 1. */
void kt_pointwise_weight_grad(const kt_conv *g, const kt_slice *slice, const float *dy, const float *scale)
{
    static const float ones[4] = {1.0f, 1.0f, 1.0f, 1.0f};
    const int n = g->h * g->w, whole = g->o / 4 * 4;
    for (int k = 0, rows; k < slice->count; k += rows) {
        const float *const kept = slice->kept + k * n;
        float *const gradient = slice->gradient + k * g->o;
        rows = slice->count - k >= 4 ? 4 : 1;
        for (int o = 0; o < whole && rows == 4; o += 4) {
            four_by_four(kept, dy + o * n, scale ? scale + o : ones, n, gradient + o, g->o);
        }
        for (int r = 0; r < rows; r++) {
            for (int o = rows == 4 ? whole : 0; o < g->o; o++) {
                one_by_one(kept + r * n, dy + o * n, scale ? scale[o] : 1.0f, n, gradient + r * g->o + o);
            }
        }
    }
}
#endif
