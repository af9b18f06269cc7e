#include "kt_kernels.h"
#include "kt_line.h"

/* y (o,h,w) += delta^T x of the chosen channels; delta (count,o). */
void kt_pointwise_slice(const kt_conv *g, const float *x, const kt_slice *slice, float *y)
{
    const int n = g->h * g->w;
    for (int o = 0, rows; o < g->o; o += rows) {
        rows = kt_rows(g->o - o);
        for (int k = 0, depth; k < slice->count; k += depth) {
            depth = kt_depths(slice->count - k);
            const float *lines[4] = {0, 0, 0, 0};
            for (int d = 0; d < depth; d++) {
                lines[d] = x + slice->index[k + d] * n;
            }
            const kt_block block = {slice->delta + k * g->o + o, 1, g->o};
            kt_line(rows, depth, y + o * n, (size_t)n, lines, block, NULL, n);
        }
    }
}
