/* One output row of a convolution from one input plane: taps along x, zeros left and right. */
#include "kt_line.h"

/* y[r*ys + j] += sum over t < kw of w(r, t) * x[j*sw + t*dw - left] inside 0..w, for r < rows, j < ow. */
static inline void kt_conv2d_row(const kt_conv *g, int rows, float *y, size_t ys, const float *x, kt_block w)
{
    const int last = (g->kw - 1) * g->dw - g->left;
    int low = (g->left + g->sw - 1) / g->sw, high = g->w > last ? (g->w - 1 - last) / g->sw + 1 : 0;
    low = low < g->ow ? low : g->ow;
    high = high < low ? low : high < g->ow ? high : g->ow;
    for (int j = 0; j < g->ow; j++) {
        if (j == low) {
            j = high;
            if (j >= g->ow) {
                break;
            }
        }
        for (int t = 0; t < g->kw; t++) {
            const int i = j * g->sw + t * g->dw - g->left;
            if (i >= 0 && i < g->w) {
                for (int r = 0; r < rows; r++) {
                    y[(size_t)r * ys + j] = KT_FMA(y[(size_t)r * ys + j], w.value[r * w.row + t * w.depth], x[i]);
                }
            }
        }
    }
    for (int t = 0, depth; t < g->kw && low < high; t += depth) {
        depth = kt_depths(g->kw - t);
        const float *const start = x + low * g->sw + t * g->dw - g->left;
        const float *const lines[4] = {start, start + g->dw, start + 2 * g->dw, start + 3 * g->dw};
        const kt_block block = {w.value + t * w.depth, w.row, w.depth};
        if (g->sw == 1) {
            kt_line(rows, depth, y + low, ys, lines, block, NULL, high - low);
        } else {
            kt_line_strided(rows, depth, y + low, ys, 1, lines, g->sw, block, high - low);
        }
    }
}
