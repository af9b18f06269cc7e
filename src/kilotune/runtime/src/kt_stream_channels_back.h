/* dx (c,h,w) from dy (o,oh,ow) of a block, added to what dx holds if add; a few middle channels at a time. dx NULL: nobody wants it.
   Gradients of head and depthwise convolution are taken as they come: whoever includes this has a `taker` and says what
   to start from, and what to do with a gradient. Those of the projection need no more than dy.
   scratch: KT_LANES * oh * ow floats; with a head KT_LANES * h * w more, unless they can be the same; two filters; a ring if the depthwise
   convolution has stride 1. Every sum has the order of the plain kernels. */
#include "kt_kernels.h"
#include "kt_stream_rows.h"

/* The gradient becomes 0 where the mask of a plane of `channel` says so. */
static void masked(const uint8_t *mask, float *dy, int n, int channel)
{
    for (int p = 0; mask && p < n; p++) {
        const uint32_t bit = (uint32_t)(channel * n + p);
        dy[p] = kt_float(kt_bits(dy[p]) & (0u - (mask[bit >> 3] >> (bit & 7u) & 1u)));
    }
}

/* behind (count,oh,ow) = the columns first.. of (weight + delta)^T dy. */
static void back_through_projection(const kt_block_shape *g, const kt_block_layer *layer, const float *dy, int first, int count,
                                    float *behind)
{
    static const float zeros[4] = {0, 0, 0, 0};
    const kt_conv *const p = g->projection;
    const int n = p->h * p->w;
    for (int lane = 0, rows; lane < count; lane += rows) {
        rows = count - lane >= 4 ? 4 : 1;
        for (int o = 0, depth; o < p->o; o += depth) {
            float tile[4 * KT_SOME_DEPTHS];
            const int i = first + lane;
            depth = p->o - o < KT_SOME_DEPTHS ? p->o - o : KT_SOME_DEPTHS;
            layer->take(layer->weight, layer->scale, p->c, (uint32_t)(o * p->c + i), rows, 1, depth, p->c, tile);
            for (int k = 0; layer->slice && k < layer->slice->count && layer->slice->index[k] < i + rows; k++) {
                for (int d = 0; d < depth && layer->slice->index[k] >= i; d++) {
                    tile[d * rows + layer->slice->index[k] - i] += layer->slice->delta[k * p->o + o + d];
                }
            }
            kt_line(rows, depth, behind + lane * n, (size_t)n, dy + o * n, (size_t)n, tile, o ? NULL : zeros, n);
        }
    }
}

/* dx (c,h,w) += the rows first.. of (weight + delta)^T of the head times before (count,h,w). */
static void back_through_head(const kt_block_shape *g, const kt_block_layer *layer, const float *before, int first, int count, float *dx,
                              int add)
{
    static const float zeros[KT_ROWS] = {0};
    const kt_conv *const h = g->head;
    const int n = h->h * h->w;
    for (int i = 0, rows; i < h->c; i += rows) {
        float tile[KT_ROWS * KT_LANES];
        rows = kt_rows(h->c - i);
        layer->take(layer->weight, layer->scale, h->c, (uint32_t)(first * h->c + i), rows, 1, count, h->c, tile);
        for (int k = 0; layer->slice && k < layer->slice->count && layer->slice->index[k] < i + rows; k++) {
            for (int d = 0; d < count && layer->slice->index[k] >= i; d++) {
                tile[d * rows + layer->slice->index[k] - i] += layer->slice->delta[k * h->o + first + d];
            }
        }
        kt_line(rows, count, dx + i * n, (size_t)n, before, (size_t)n, tile, first || add ? NULL : zeros, n);
    }
}

/* Where the filter of a middle channel stands among the trained ones, or -1. */
static int place_of(const kt_block_layer *layer, const kt_block_trained *trained, int channel)
{
    for (int k = 0; trained->layer && k < layer->slice->count; k++) {
        if (layer->slice->index[k] == channel) {
            return k;
        }
    }
    return -1;
}

/* Gradient of the filter that stands at k, with a geometry of one channel. */
static void filter_gradient(const kt_conv *one, const kt_block_layer *layer, int k, const float *scale, const float *dy, float *gradient)
{
    static const uint16_t first = 0;
    const kt_slice *const slice = layer->slice;
    const int taps = kt_n_taps(one, layer);
    const kt_slice single = {&first, NULL, gradient, NULL, slice->kept + k * one->h * one->w, 1};
    start(slice->gradient, k * taps, taps, gradient);
    if (layer->patterns) {
        const kt_patterns own = {layer->patterns->number + slice->index[k], layer->patterns->places, layer->patterns->taps};
        kt_conv2d_weight_grad_taps(one, &single, &own, dy, scale);
    } else {
        kt_conv2d_weight_grad(one, &single, dy, scale);
    }
}

/* Gradients of the rows first.. of the head, of each trained channel; before (count,h,w). */
static void head_gradients(const taker *t, const kt_conv *h, const kt_slice *slice, const kt_block_trained *trained, const float *before,
                           int first, int count)
{
    const kt_conv rows = {1, h->h, h->w, (uint16_t)count, h->h, h->w, 1, 1, 1, 1, 1, 1, 1, 0, 0};
    const float *const scale = trained->scale ? trained->scale + first : NULL;
    for (int k = 0; trained->layer && k < slice->count; k++) {
        float gradient[KT_LANES];
        const kt_slice single = {slice->index + k, NULL, gradient, NULL, slice->kept + k * h->h * h->w, 1};
        start(slice->gradient, k * h->o + first, count, gradient);
        kt_pointwise_weight_grad(&rows, &single, before, scale);
        take(t, trained, slice, k, first, count, gradient, scale, 1);
    }
}

static void bias_gradients(const taker *t, const kt_block_trained *trained, const float *dy, int first, int count, int n)
{
    for (int o = first; trained->bias && o < first + count; o++, dy += n) {
        float gradient;
        start(trained->bias_gradient, o, 1, &gradient);
        kt_bias_grad(dy, trained->bias_scale ? trained->bias_scale + o : NULL, &gradient, 1, n);
        take_bias(t, trained, o, gradient);
    }
}

/* The middle channel c, from its gradient behind the depthwise convolution (oh,ow) to that before it (h,w), which is NULL if nobody
   wants it. scratch: two filters, then a ring. */
static void back_through_depthwise(const taker *t, const kt_block_shape *g, const kt_block_layer *layers, const kt_block_trained *trained,
                                   int c, float *behind, float *before, float *scratch, int add)
{
    const kt_conv *const d = g->depthwise;
    const kt_conv one = {1, d->h, d->w, 1, d->oh, d->ow, 1, d->kh, d->kw, d->sh, d->sw, d->dh, d->dw, d->top, d->left};
    const int size = d->kh * d->kw, taps = kt_n_taps(d, layers + 1), k = place_of(layers + 1, trained + 1, c);
    const float *const scale = trained[1].scale ? trained[1].scale + c : NULL;
    masked(layers[1].mask, behind, d->oh * d->ow, c);
    bias_gradients(t, trained + 1, behind, c, 1, d->oh * d->ow);
    if (k >= 0) {
        filter_gradient(&one, layers + 1, k, scale, behind, scratch + size);
    }
    if (before) {
        kt_filter(g, layers + 1, c, scratch);
        kt_depthwise_input_grad_f32(&one, behind, scratch, NULL, NULL, before, scratch + 2 * size, add);
    }
    if (k >= 0) {
        take(t, trained + 1, layers[1].slice, k, 0, taps, scratch + size, scale, taps);
    }
}

/* Twin of memory.segments.Block.in_place. */
static int is_in_place(const kt_conv *d)
{
    const int top = d->kh - 1 - d->top, left = d->kw - 1 - d->left;
    int legal = d->sh == 1 && d->sw == 1 && top >= 0 && left >= 0 && d->h * d->w == d->oh * d->ow;
    for (int row = 0; row < d->h && legal; row++) {
        const int read = row - top + d->kh < d->oh ? row - top + d->kh : d->oh;
        legal = read == d->oh || (row + 1) * d->w <= read * d->ow;
    }
    return legal;
}

static void run(const taker *t, const kt_block_shape *g, const float *dy, const kt_block_layer *layers, const kt_block_trained *trained,
                float *dx, float *scratch, int add)
{
    const kt_conv *const d = g->depthwise;
    const int lanes = d->c < KT_LANES ? d->c : KT_LANES, m = d->h * d->w, n = d->oh * d->ow;
    const int wanted = dx || trained[0].layer || trained[0].bias;
    float *const behind = scratch, *const before = is_in_place(d) ? behind : behind + lanes * n;
    float *const filters = g->head ? before + lanes * m : behind + lanes * n;
    for (int first = 0, count; first < d->c; first += count) {
        count = d->c - first < lanes ? d->c - first : lanes;
        back_through_projection(g, layers + 2, dy, first, count, behind);
        for (int lane = 0; lane < count; lane++) {
            float *const to = g->head ? before + lane * m : dx + (first + lane) * m;
            back_through_depthwise(t, g, layers, trained, first + lane, behind + lane * n, wanted ? to : NULL, filters, g->head ? 0 : add);
            if (g->head && wanted) {
                masked(layers[0].mask, to, m, first + lane);
            }
        }
        if (g->head && dx) {
            back_through_head(g, layers, before, first, count, dx, add);
        }
        if (g->head) {
            head_gradients(t, g->head, layers[0].slice, trained, before, first, count);
            bias_gradients(t, trained, before, first, count, m);
        }
    }
}
