#include "kt_conv2d_rows.h"
#include "kt_kernels.h"

/* y (o,oh,ow) += delta * x of the chosen channels; delta (count, o/groups, kh, kw). */
void kt_conv2d_slice(const kt_conv *g, const float *x, const kt_slice *slice, float *y)
{
    const int inputs = g->c / g->groups, outputs = g->o / g->groups, taps = g->kh * g->kw, n = g->oh * g->ow;
    for (int k = 0; k < slice->count; k++) {
        const int channel = slice->index[k];
        float *const group = y + channel / inputs * outputs * n;
        for (int o = 0, rows; o < outputs; o += rows) {
            rows = kt_rows(outputs - o);
            for (int line = 0; line < g->oh * g->kh; line++) {
                const int row = line / g->kh, from = row * g->sh + line % g->kh * g->dh - g->top;
                if (from >= 0 && from < g->h) {
                    const kt_block block = {slice->delta + (k * outputs + o) * taps + line % g->kh * g->kw, taps, 1};
                    kt_conv2d_row(g, rows, group + o * n + row * g->ow, (size_t)n, x + (channel * g->h + from) * g->w, block);
                }
            }
        }
    }
}
