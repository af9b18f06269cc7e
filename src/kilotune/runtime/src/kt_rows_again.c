#include "kt_pull_rows.h"

/* Behind the last row of the source that row `row` of the output needs. */
static int end_of(const kt_block_rows *s, int row)
{
    const kt_conv *const d = s->g->depthwise, *const h = s->g->head;
    const int last = row * d->sh - d->top + d->kh < d->h ? row * d->sh - d->top + d->kh : d->h;
    return h ? (last - 1) * h->sh - h->top + h->kh : last;
}

/* A row of a block that has rings of a few middle channels: the middle rows under the depthwise kernel are made anew for each row of the
   output. scratch: KT_LANES * (ring + ow + filter) floats. */
void kt_rows_again(const kt_maker *self, int row, float *y, size_t ys)
{
    const kt_block_rows *const s = (const kt_block_rows *)(const void *)self;
    const kt_conv *const d = s->g->depthwise;
    const int lanes = d->c < KT_LANES ? d->c : KT_LANES, top = row * d->sh - d->top;
    kt_lanes a = kt_lanes_of(s->g, s->layers, s->source, s->n_source, lanes, s->scratch);
    if (row == 0) {
        kt_fill(a.ring, 0.0f, lanes * a.rows * a.width);
    }
    kt_pull(s, row ? end_of(s, row - 1) : 0, end_of(s, row));
    for (; a.first < d->c; a.first += a.count) {
        a.count = d->c - a.first < lanes ? d->c - a.first : lanes;
        for (int next = top; next < top + a.rows; next++) {
            kt_middle_row(&a, next, a.ring);
        }
        kt_filters(&a);
        kt_output_row(&a, row, a.ring, y, ys);
    }
}
