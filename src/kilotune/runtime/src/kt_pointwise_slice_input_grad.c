#include "kt_kernels.h"
#include "kt_line.h"

static void some_inputs(const kt_conv *g, const float *dy, const kt_slice *slice, int i, int end, float *dx, int add)
{
    static const float zeros[KT_ROWS] = {0};
    const int n = g->h * g->w;
    for (int rows; i < end; i += rows) {
        rows = kt_rows(end - i);
        for (int o = 0, depth; o < g->o; o += depth) {
            float tile[KT_TILE];
            depth = kt_depths(g->o - o);
            kt_turn(slice->delta + i * g->o + o, (size_t)g->o, rows, depth, tile, rows);
            kt_line(rows, depth, dx + i * n, (size_t)n, dy + o * n, (size_t)n, tile, o || add ? NULL : zeros, n);
        }
    }
}

/* dx (c,h,w) = delta (c,o) dy (o,h,w), added to what dx holds if add: kt_pointwise_input_grad where the slice has all channels, and the
   whole weight is its delta. */
void kt_pointwise_slice_input_grad(const kt_conv *g, const float *dy, const kt_slice *slice, float *dx, int add)
{
    KT_SHARED
    for (int i = 0; i < g->c; i += KT_ROWS) {
        some_inputs(g, dy, slice, i, g->c - i < KT_ROWS ? g->c : i + KT_ROWS, dx, add);
    }
}
