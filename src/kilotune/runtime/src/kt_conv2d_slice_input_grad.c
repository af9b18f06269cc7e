#include "kt_conv2d_input_rows.h"
#include "kt_kernels.h"

/* The chosen channels of dx (c,h,w) += the transposed convolution of dy (o,oh,ow) with delta (count, o/groups, kh, kw). */
void kt_conv2d_slice_input_grad(const kt_conv *g, const float *dy, const kt_slice *slice, float *dx)
{
    const int inputs = g->c / g->groups, outputs = g->o / g->groups, taps = g->kh * g->kw;
    for (int k = 0; k < slice->count; k++) {
        const int channel = slice->index[k];
        const float *const group = dy + channel / inputs * outputs * g->oh * g->ow;
        for (int row = 0; row < g->oh; row++) {
            for (int tap = 0; tap < taps; tap++) {
                const int line = row * g->sh + tap / g->kw * g->dh - g->top;
                for (int o = 0, depth; o < outputs && line >= 0 && line < g->h; o += depth) {
                    float tile[KT_DEPTH];
                    depth = kt_depths(outputs - o);
                    for (int d = 0; d < depth; d++) {
                        tile[d] = slice->delta[(k * outputs + o + d) * taps + tap];
                    }
                    kt_conv2d_input_row(g, 1, depth, dx + (channel * g->h + line) * g->w, 0, group + (o * g->oh + row) * g->ow,
                                        (size_t)g->oh * g->ow, tap % g->kw, tile);
                }
            }
        }
    }
}
