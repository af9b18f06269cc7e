#include "kt_conv2d_span.h"
#include "kt_kernels.h"

/* dx (c,h,w) += the transposed convolution of the chosen planes of dy (o,oh,ow) with delta (count, c/groups, kh, kw). */
void kt_conv2d_neurons_input_grad(const kt_conv *g, const float *dy, const kt_slice *slice, float *dx)
{
    const int inputs = g->c / g->groups, outputs = g->o / g->groups, taps = g->kh * g->kw;
    for (int k = 0; k < slice->count; k++) {
        const int o = slice->index[k];
        for (int tap = 0; tap < inputs * taps; tap++) {
            float *const plane = dx + (o / outputs * inputs + tap / taps) * g->h * g->w;
            const float w = slice->delta[k * inputs * taps + tap];
            const kt_span span = kt_span_of(g, tap % g->kw, g->sw);
            for (int row = 0; row < g->oh; row++) {
                const int line = row * g->sh + tap % taps / g->kw * g->dh - g->top;
                const float *const from = dy + (o * g->oh + row) * g->ow;
                for (int j = span.low; j < span.high && line >= 0 && line < g->h; j++) {
                    float *const to = plane + line * g->w + j * g->sw + span.shift;
                    *to = KT_FMA(*to, w, from[j]);
                }
            }
        }
    }
}
