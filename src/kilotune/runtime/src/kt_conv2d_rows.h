/* One output row of a convolution from one input plane: taps along x, zeros left and right. */
#include "kt_line.h"

/* y[r*ys + j] += sum over t < kw of w[t*rows + r] * x[j*sw + t*dw - left] inside 0..w, for r < rows, j < ow. */
static inline void kt_conv2d_row(const kt_conv *g, int rows, float *y, size_t ys, const float *x, const float *w)
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
                    y[(size_t)r * ys + j] = KT_FMA(y[(size_t)r * ys + j], w[t * rows + r], x[i]);
                }
            }
        }
    }
    if (low < high) {
        const float *const start = x + low * g->sw - g->left;
        if (g->sw == 1) {
            kt_line(rows, g->kw, y + low, ys, start, g->dw, w, NULL, high - low);
        } else {
            kt_line_strided(rows, g->kw, y + low, ys, 1, start, g->dw, g->sw, w, high - low);
        }
    }
}
