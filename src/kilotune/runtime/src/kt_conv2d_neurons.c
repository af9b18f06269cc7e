#include "kt_conv2d_span.h"
#include "kt_kernels.h"

/* The chosen planes of y (o,oh,ow) += delta * x (c,h,w); delta (count, c/groups, kh, kw). */
void kt_conv2d_neurons(const kt_conv *g, const float *x, const kt_slice *slice, float *y)
{
    const int inputs = g->c / g->groups, outputs = g->o / g->groups, taps = g->kh * g->kw;
    for (int k = 0; k < slice->count; k++) {
        const int o = slice->index[k];
        for (int tap = 0; tap < inputs * taps; tap++) {
            const float *const plane = x + (o / outputs * inputs + tap / taps) * g->h * g->w;
            const float w = slice->delta[k * inputs * taps + tap];
            const kt_span span = kt_span_of(g, tap % g->kw, g->sw);
            for (int row = 0; row < g->oh; row++) {
                const int line = row * g->sh + tap % taps / g->kw * g->dh - g->top;
                float *const to = y + (o * g->oh + row) * g->ow;
                for (int j = span.low; j < span.high && line >= 0 && line < g->h; j++) {
                    to[j] = KT_FMA(to[j], w, plane[line * g->w + j * g->sw + span.shift]);
                }
            }
        }
    }
}
