#include "kt_line.h"
#include "kt_stream.h"

/* y (o,h,w) += delta^T kept of a trained projection, whose chosen inputs are there as a whole; delta (count,o). */
void kt_stream_kept(const kt_conv *g, const kt_slice *slice, float *y)
{
    const int n = g->h * g->w;
    for (int o = 0, rows; o < g->o; o += rows) {
        rows = kt_rows(g->o - o);
        for (int k = 0, depth; k < slice->count; k += depth) {
            depth = kt_depths(slice->count - k);
            const float *const x = slice->kept + k * n, *const lines[4] = {x, x + n, x + 2 * n, x + 3 * n};
            const kt_block block = {slice->delta + k * g->o + o, 1, g->o};
            kt_line(rows, depth, y + o * n, (size_t)n, lines, block, NULL, n);
        }
    }
}
