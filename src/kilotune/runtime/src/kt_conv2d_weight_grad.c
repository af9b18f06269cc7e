#include "kt_kernels.h"

/* The sum over one tap, row by row, in four lanes that are added as (0 + 1) + (2 + 3). sw is a constant where that is common. */
static inline float one_tap(const kt_conv *g, const float *x, const float *dy, int k, int t, int sw)
{
    const int shift = t * g->dw - g->left;
    const int low = shift < 0 ? (-shift + sw - 1) / sw : 0;
    int high = g->w > shift ? (g->w - 1 - shift) / sw + 1 : 0;
    high = high < g->ow ? high : g->ow;
    float s[4] = {0, 0, 0, 0};
    for (int row = 0; row < g->oh; row++) {
        const int line = row * g->sh + k * g->dh - g->top;
        if (line >= 0 && line < g->h) {
            const float *const from = x + line * g->w + shift, *const by = dy + row * g->ow;
            int j = low;
            for (; j + 4 <= high; j += 4) {
                for (int l = 0; l < 4; l++) {
                    s[l] = KT_FMA(s[l], from[(j + l) * sw], by[j + l]);
                }
            }
            for (; j < high; j++) {
                s[(j - low) & 3] = KT_FMA(s[(j - low) & 3], from[j * sw], by[j]);
            }
        }
    }
    return (s[0] + s[1]) + (s[2] + s[3]);
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
                const float *const from = dy + o * g->oh * g->ow;
                const float sum = g->sw == 1 ? one_tap(g, x, from, tap / g->kw, tap % g->kw, 1)
                                             : one_tap(g, x, from, tap / g->kw, tap % g->kw, g->sw);
                *gradient = KT_FMA(*gradient, factor, sum);
            }
        }
    }
}
