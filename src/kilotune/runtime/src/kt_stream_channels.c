/* y (o,oh,ow) = projection of clamp(depthwise of clamp(head of x)), a few middle channels at a time, each row by row. Masks are made,
   chosen inputs of depthwise convolution and projection are kept on the way. scratch: KT_LANES * (ring of one channel + ow + filter)
   floats, fewer for fewer channels. */
#include "kt_stream_rows.h"

static void clear(uint8_t *mask, int n)
{
    for (int i = 0; mask && i < (n + 7) / 8; i++) {
        mask[i] = 0;
    }
}

void kt_stream_channels(const kt_block_shape *g, const float *x, const kt_block_layer *layers, float *y, float *scratch)
{
    const kt_conv *const d = g->depthwise;
    const int lanes = d->c < KT_LANES ? d->c : KT_LANES;
    kt_lanes a = kt_lanes_of(g, layers, x, g->head ? g->head->h : d->h, lanes, scratch);
    clear(layers[0].mask, d->c * d->h * d->w);
    clear(layers[1].mask, d->c * d->oh * d->ow);
    kt_fill(a.ring, 0.0f, lanes * a.rows * a.width);
    for (; a.first < d->c; a.first += a.count) {
        int next = -d->top;
        a.count = d->c - a.first < lanes ? d->c - a.first : lanes;
        kt_filters(&a);
        for (int row = 0; row < d->oh; row++) {
            for (; next < row * d->sh - d->top + a.rows; next++) {
                kt_middle_row(&a, next, a.ring);
            }
            kt_output_row(&a, row, a.ring, y + row * d->ow, (size_t)(d->oh * d->ow));
        }
        for (; next < d->h; next++) {
            kt_middle_row(&a, next, a.ring);
        }
    }
}
