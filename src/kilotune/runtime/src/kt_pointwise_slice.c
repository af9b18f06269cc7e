#include "kt_kernels.h"
#include "kt_line.h"

/* tile (depth, rows) = delta (depth, step), the first rows of each. rows is a constant where that is common. */
static inline void pack(const float *delta, int step, int rows, int depth, float *tile)
{
    for (int d = 0; d < depth; d++) {
        for (int r = 0; r < rows; r++) {
            tile[d * rows + r] = delta[d * step + r];
        }
    }
}

static void some_outputs(const kt_conv *g, const float *x, const float *bias, const kt_slice *slice, int o, int end, float *y)
{
    const int n = g->h * g->w;
    for (int rows; o < end; o += rows) {
        rows = kt_rows(end - o);
        for (int i = 0, depth; i < g->c; i += depth) {
            const float *const delta = slice->delta + i * g->o + o;
            float tile[KT_TILE];
            depth = kt_depths(g->c - i);
            if (rows == KT_ROWS) {
                pack(delta, g->o, KT_ROWS, depth, tile);
            } else {
                pack(delta, g->o, rows, depth, tile);
            }
            kt_line(rows, depth, y + o * n, (size_t)n, x + i * n, (size_t)n, tile, i ? NULL : bias + o, n);
        }
    }
}

/* y (o,h,w) = delta (c,o)^T x (c,h,w) + bias (o): kt_pointwise where the slice has all channels, and the whole weight is its delta. */
void kt_pointwise_slice(const kt_conv *g, const float *x, const float *bias, const kt_slice *slice, float *y)
{
    KT_SHARED
    for (int o = 0; o < g->o; o += KT_ROWS) {
        some_outputs(g, x, bias, slice, o, g->o - o < KT_ROWS ? g->o : o + KT_ROWS, y);
    }
}
