/* One row of the gradient of a convolution's input from one row of dL/dy of some output channels, for one tap. */
#include "kt_line.h"

/* dx[r*xs + j*sw + t*dw - left] += sum over d < depth of w[d*rows + r] * dy[d*ys + j], inside 0..w, for r < rows, j < ow. */
static inline void kt_conv2d_input_row(const kt_conv *g, int rows, int depth, float *dx, size_t xs, const float *dy, size_t ys, int t,
                                       const float *w)
{
    const int shift = t * g->dw - g->left;
    const int low = shift < 0 ? (-shift + g->sw - 1) / g->sw : 0;
    int high = g->w > shift ? (g->w - 1 - shift) / g->sw + 1 : 0;
    high = high < g->ow ? high : g->ow;
    if (low < high) {
        kt_line_strided(rows, depth, dx + low * g->sw + shift, xs, g->sw, dy + low, ys, 1, w, high - low);
    }
}
