/* Rows of the source of a block, pulled in order into its line buffer. */
#include "kt_stream_rows.h"

static inline void kt_pull(const kt_block_rows *s, int from, int to)
{
    const kt_conv *const g = s->g->head ? s->g->head : s->g->depthwise;
    from = from < 0 ? 0 : from;
    to = to < g->h ? to : g->h;
    for (int row = from; row < to; row++) {
        s->before->make(s->before, row, s->source + row % s->n_source * g->w, (size_t)s->n_source * g->w);
    }
}
