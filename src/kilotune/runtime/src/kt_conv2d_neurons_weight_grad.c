#include "kt_conv2d_span.h"
#include "kt_kernels.h"

/* The sum over tap (k, t), row by row, in four lanes that are added as (0 + 1) + (2 + 3). */
static float one_tap(const kt_conv *g, const float *x, const float *dy, int k, int t)
{
    const kt_span span = kt_span_of(g, t, g->sw);
    float s[4] = {0, 0, 0, 0};
    for (int row = 0; row < g->oh; row++) {
        const int line = row * g->sh + k * g->dh - g->top;
        for (int j = span.low; j < span.high && line >= 0 && line < g->h; j++) {
            const int lane = (j - span.low) & 3;
            s[lane] = KT_FMA(s[lane], x[line * g->w + j * g->sw + span.shift], dy[row * g->ow + j]);
        }
    }
    return (s[0] + s[1]) + (s[2] + s[3]);
}

/* gradient (count, c/groups, kh, kw) += scale (o) * correlation of kept (c,h,w) with the chosen planes of dy (o,oh,ow); scale NULL: 1. */
void kt_conv2d_neurons_weight_grad(const kt_conv *g, const kt_slice *slice, const float *dy, const float *scale)
{
    const int inputs = g->c / g->groups, outputs = g->o / g->groups, taps = g->kh * g->kw;
    float *gradient = slice->gradient;
    for (int k = 0; k < slice->count; k++) {
        const int o = slice->index[k];
        const float factor = scale ? scale[o] : 1.0f;
        const float *const from = dy + o * g->oh * g->ow, *x = slice->kept + o / outputs * inputs * g->h * g->w;
        for (int i = 0; i < inputs; i++, x += g->h * g->w) {
            for (int tap = 0; tap < taps; tap++, gradient++) {
                *gradient = KT_FMA(*gradient, factor, one_tap(g, x, from, tap / g->kw, tap % g->kw));
            }
        }
    }
}
