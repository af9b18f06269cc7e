#include "kt_pull_rows.h"

/* A row of a block that has rings of all its middle channels: each middle row is made once, from the rows of the source under the head.
   scratch: middle channels * ring + KT_LANES * (ow + filter) floats. */
void kt_rows_lines(const kt_maker *self, int row, float *y, size_t ys)
{
    const kt_block_rows *const s = (const kt_block_rows *)(const void *)self;
    const kt_conv *const d = s->g->depthwise, *const h = s->g->head;
    kt_lanes a = kt_lanes_of(s->g, s->layers, s->source, s->n_source, d->c, s->scratch);
    const int lanes = a.count, size = a.rows * a.width;
    if (row == 0) {
        kt_fill(a.ring, 0.0f, d->c * size);
    }
    for (int next = row ? (row - 1) * d->sh - d->top + a.rows : -d->top; next < row * d->sh - d->top + a.rows; next++) {
        if (next >= 0 && next < d->h) {
            kt_pull(s, next ? (next - 1) * h->sh - h->top + h->kh : 0, next * h->sh - h->top + h->kh);
        }
        for (a.first = 0; a.first < d->c; a.first += lanes) {
            a.count = d->c - a.first < lanes ? d->c - a.first : lanes;
            kt_middle_row(&a, next, a.ring + a.first * size);
        }
    }
    for (a.first = 0; a.first < d->c; a.first += lanes) {
        a.count = d->c - a.first < lanes ? d->c - a.first : lanes;
        kt_filters(&a);
        kt_output_row(&a, row, a.ring + a.first * size, y, ys);
    }
}
