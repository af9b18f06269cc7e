#include "kt_kernels.h"
#include "kt_line.h"

/* The chosen channels of dx (c,h,w) += delta dy; delta (count,o), dy (o,h,w). */
void kt_pointwise_slice_input_grad(const kt_conv *g, const float *dy, const kt_slice *slice, float *dx)
{
    const int n = g->h * g->w;
    for (int k = 0; k < slice->count; k++) {
        for (int o = 0, depth; o < g->o; o += depth) {
            depth = kt_depths(g->o - o);
            const float *const lines[4] = {dy + o * n, dy + (o + 1) * n, dy + (o + 2) * n, dy + (o + 3) * n};
            const kt_block block = {slice->delta + k * g->o + o, g->o, 1};
            kt_line(1, depth, dx + slice->index[k] * n, (size_t)n, lines, block, NULL, n);
        }
    }
}
