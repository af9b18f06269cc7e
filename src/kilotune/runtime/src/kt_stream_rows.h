/* What streamed blocks share: rows of middle channels in rings, filters, sums into a row of the output. Every sum has the order of the
   plain kernels, so the results are the same bits. */
#include "kt_conv2d_rows.h"
#include "kt_depthwise_plane.h"
#include "kt_stream.h"

#define KT_SOME_DEPTHS 32 /* of a tile: rows are short, and the stack is too */

/* A few middle channels in work. x (c, x_rows, w): the source, or a line buffer of its rows. scratch: a ring for each channel, a row
   behind the depthwise convolution for each, a filter for each. y: where a row of the output is made. */
typedef struct {
    const kt_block_shape *g;
    const kt_block_layer *layers;
    const float *x;
    int x_rows;
    float *ring, *behind, *filters;
    int first, count, width, rows;
} kt_lanes;

/* all: middle channels that have a ring. */
static inline kt_lanes kt_lanes_of(const kt_block_shape *g, const kt_block_layer *layers, const float *x, int x_rows, int all,
                                   float *scratch)
{
    const kt_conv *const d = g->depthwise;
    const int lanes = d->c < KT_LANES ? d->c : KT_LANES, width = kt_ring_width(d), rows = kt_ring_rows(d);
    float *const behind = scratch + all * rows * width;
    const kt_lanes a = {g, layers, x, x_rows, scratch, behind, behind + lanes * d->ow, 0, lanes, width, rows};
    return a;
}

/* Adds the trained part of a tile of a pointwise convolution: inputs i.., outputs o... */
static inline void kt_add_deltas(const kt_slice *slice, int outputs, int o, int rows, int i, int depths, float *tile)
{
    for (int k = 0; slice && k < slice->count && slice->index[k] < i + depths; k++) {
        for (int r = 0; r < rows && slice->index[k] >= i; r++) {
            tile[(slice->index[k] - i) * rows + r] += slice->delta[k * outputs + o + r];
        }
    }
}

/* Clamps a line of a channel, from its number `start` on, and notes which numbers are inside. */
static inline void kt_clamp_line(const kt_block_layer *layer, float *line, int n, int channel, int size, int start)
{
    uint32_t bit = (uint32_t)(channel * size + start), byte = 0;
    const float low = layer->low, high = layer->high;
    for (int p = 0; p < n; p++, bit++) {
        const float v = line[p] > low ? (line[p] < high ? line[p] : high) : low;
        line[p] = v;
        byte |= (uint32_t)(v > low && v < high) << (bit & 7u);
        if (layer->mask && ((bit & 7u) == 7u || p == n - 1)) {
            layer->mask[bit >> 3] |= (uint8_t)byte;
            byte = 0;
        }
    }
}

/* Keeps a line if its channel is chosen. */
static inline void kt_keep_line(const kt_slice *slice, const float *line, int n, int channel, int size, int start)
{
    for (int k = 0; slice && k < slice->count; k++) {
        for (int p = 0; p < n && slice->index[k] == channel; p++) {
            slice->kept[k * size + start + p] = line[p];
        }
    }
}

/* rows (1 or 4) channels of the head from o on, row `row`; y (rows, ys). */
static inline void kt_head_row(const kt_lanes *a, int o, int rows, int row, float *y, int ys)
{
    const kt_conv *const g = a->g->head;
    const kt_block_layer *const layer = a->layers;
    const int taps = g->kh * g->kw, plane = a->x_rows * g->w;
    for (int i = 0, depth; i < g->c && taps == 1; i += depth) {
        float tile[4 * KT_SOME_DEPTHS];
        depth = g->c - i < KT_SOME_DEPTHS ? g->c - i : KT_SOME_DEPTHS;
        layer->take(layer->weight, layer->scale, g->c, (uint32_t)(o * g->c + i), rows, g->c, depth, 1, tile);
        kt_add_deltas(layer->slice, g->o, o, rows, i, depth, tile);
        kt_line(rows, depth, y, (size_t)ys, a->x + i * plane + row % a->x_rows * g->w, (size_t)plane, tile, i ? NULL : layer->bias + o,
                g->w);
    }
    for (int r = 0; r < rows && taps > 1; r++) {
        kt_fill(y + r * ys, layer->bias[o + r], g->ow);
    }
    for (int i = 0; i < g->c && taps > 1; i++) {
        for (int k = 0; k < g->kh; k++) {
            float tile[4 * KT_MAX_KERNEL];
            const int line = row * g->sh + k * g->dh - g->top;
            if (line >= 0 && line < g->h) {
                layer->take(layer->weight, layer->scale, (uint32_t)(g->c * taps), (uint32_t)((o * g->c + i) * taps + k * g->kw), rows,
                            g->c * taps, g->kw, 1, tile);
                kt_conv2d_row(g, rows, y, (size_t)ys, a->x + i * plane + line % a->x_rows * g->w, tile);
            }
        }
    }
}

/* Row `row` of the middle channels in work, to where the rings have it; zeros outside the map. ring: of the first of them. */
static inline void kt_middle_row(const kt_lanes *a, int row, float *ring)
{
    const kt_conv *const d = a->g->depthwise;
    const int ys = a->rows * a->width;
    float *const line = ring + (row + d->top) % a->rows * a->width + d->left;
    for (int lane = 0, step; lane < a->count; lane += step) {
        float *const y = line + lane * ys;
        const int o = a->first + lane;
        step = a->count - lane >= 4 ? 4 : 1;
        if (row >= 0 && row < d->h && a->g->head) {
            kt_head_row(a, o, step, row, y, ys);
        }
        for (int r = 0; r < step; r++) {
            if (row < 0 || row >= d->h) {
                kt_fill(y + r * ys, 0.0f, d->w);
                continue;
            }
            if (a->g->head) {
                kt_clamp_line(a->layers, y + r * ys, d->w, o + r, d->h * d->w, row * d->w);
            } else {
                const float *const from = a->x + ((o + r) * a->x_rows + row % a->x_rows) * d->w;
                for (int p = 0; p < d->w; p++) {
                    y[r * ys + p] = from[p];
                }
            }
            kt_keep_line(a->layers[1].slice, y + r * ys, d->w, o + r, d->h * d->w, row * d->w);
        }
    }
}

/* Numbers of a filter that there are. */
static inline int kt_n_taps(const kt_conv *depthwise, const kt_block_layer *layer)
{
    return layer->patterns ? layer->patterns->taps : depthwise->kh * depthwise->kw;
}

/* The filter of a middle channel, weight + delta. */
static inline void kt_filter(const kt_block_shape *g, const kt_block_layer *layer, int channel, float *f)
{
    const int taps = kt_n_taps(g->depthwise, layer);
    layer->take(layer->weight, layer->scale, (uint32_t)taps, (uint32_t)(channel * taps), 1, 0, taps, 1, f);
    for (int k = 0; layer->slice && k < layer->slice->count; k++) {
        for (int t = 0; t < taps && layer->slice->index[k] == channel; t++) {
            f[t] += layer->slice->delta[k * taps + t];
        }
    }
    if (layer->patterns) {
        kt_to_places(kt_places(layer->patterns, channel), taps, f, g->depthwise->kh * g->depthwise->kw);
    }
}

static inline void kt_filters(const kt_lanes *a)
{
    for (int lane = 0; lane < a->count; lane++) {
        kt_filter(a->g, a->layers + 1, a->first + lane, a->filters + lane * a->g->depthwise->kh * a->g->depthwise->kw);
    }
}

/* Row `row` behind the depthwise convolution from the rings of the channels in work, added to y (o, ys) through the projection; the
   first channels start from the bias. ring: of the first of them. */
static inline void kt_output_row(const kt_lanes *a, int row, const float *ring, float *y, size_t ys)
{
    const kt_conv *const d = a->g->depthwise, *const g = a->g->projection;
    const kt_block_layer *const layer = a->layers + 2;
    for (int lane = 0; lane < a->count; lane++) {
        const float *lines[KT_MAX_KERNEL];
        float *const behind = a->behind + lane * d->ow;
        for (int k = 0; k < d->kh; k++) {
            lines[k] = ring + (lane * a->rows + (row * d->sh + k) % a->rows) * a->width;
        }
        kt_depthwise_row(d, behind, lines, a->filters + lane * d->kh * d->kw, a->layers[1].bias + a->first + lane);
        kt_clamp_line(a->layers + 1, behind, d->ow, a->first + lane, d->oh * d->ow, row * d->ow);
        kt_keep_line(layer->slice, behind, d->ow, a->first + lane, d->oh * d->ow, row * d->ow);
    }
    for (int o = 0, rows; o < g->o; o += rows) {
        float tile[KT_ROWS * KT_LANES];
        rows = kt_rows(g->o - o);
        layer->take(layer->weight, layer->scale, g->c, (uint32_t)(o * g->c + a->first), rows, g->c, a->count, 1, tile);
        kt_add_deltas(layer->slice, g->o, o, rows, a->first, a->count, tile);
        kt_line(rows, a->count, y + (size_t)o * ys, ys, a->behind, (size_t)d->ow, tile, a->first ? NULL : layer->bias + o, d->ow);
    }
}
