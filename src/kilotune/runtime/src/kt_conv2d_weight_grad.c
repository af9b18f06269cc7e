#include "kt_kernels.h"

/* The sum over one tap, row by row. */
static float one_tap(const kt_conv *g, const float *x, const float *dy, int k, int t)
{
    const int shift = t * g->dw - g->left;
    const int low = shift < 0 ? (-shift + g->sw - 1) / g->sw : 0;
    int high = g->w > shift ? (g->w - 1 - shift) / g->sw + 1 : 0;
    high = high < g->ow ? high : g->ow;
    float sum = 0;
    for (int row = 0; row < g->oh; row++) {
        const int line = row * g->sh + k * g->dh - g->top;
        if (line >= 0 && line < g->h) {
            const float *const from = x + line * g->w;
            for (int j = low; j < high; j++) {
                sum = KT_FMA(sum, from[j * g->sw + shift], dy[row * g->ow + j]);
            }
        }
    }
    return sum;
}

/* gradient (count, o/groups, kh, kw) += scale (o) * correlation of kept (count,h,w) with dy (o,oh,ow); scale NULL: 1. */
void kt_conv2d_weight_grad(const kt_conv *g, const kt_slice *slice, const float *dy, const float *scale)
{
    const int inputs = g->c / g->groups, outputs = g->o / g->groups, taps = g->kh * g->kw;
    float *gradient = slice->gradient;
    for (int k = 0; k < slice->count; k++) {
        const int first = slice->index[k] / inputs * outputs;
        const float *const x = slice->kept + k * g->h * g->w;
        for (int o = first; o < first + outputs; o++) {
            const float factor = scale ? scale[o] : 1.0f;
            for (int tap = 0; tap < taps; tap++, gradient++) {
                *gradient = KT_FMA(*gradient, factor, one_tap(g, x, dy + o * g->oh * g->ow, tap / g->kw, tap % g->kw));
            }
        }
    }
}
