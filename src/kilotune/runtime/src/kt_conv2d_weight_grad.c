#include "kt_flat.h"
#include "kt_kernels.h"

/* The products of a tap are summed in sixteen lanes, column j of the output in lane j % 16, row after row; then the lanes are added:
   l + (l + 8) and (l + 4) + (l + 12) for l < 4, and the four as (0 + 1) + (2 + 3). */
#define LANES 16

static inline float lanes_sum(const float *s)
{
    const kt_quad low = kt_quad_add(kt_quad_take(s, 1), kt_quad_take(s + 8, 1));
    const kt_quad t = kt_quad_add(low, kt_quad_add(kt_quad_take(s + 4, 1), kt_quad_take(s + 12, 1)));
    return (KT_LANE(t, 0) + KT_LANE(t, 1)) + (KT_LANE(t, 2) + KT_LANE(t, 3));
}

#if KT_VECTORS

#define NINE 9 /* taps at once */
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8)

/* Lanes `lane` of nine taps, the last one again where there are fewer, of channels side by side. */
static KT_OUTLINE void nine_taps_of_pixels(const kt_conv *g, int columns, const float *const *x, const float *dy, int lane,
                                           float (*s)[LANES][KT_WIDE])
{
#define BEGIN(t) KT_VEC a##t = KT_WIDEST(_all)(0.0f);
    EACH(BEGIN)
    for (int row = 0; row < g->oh; row++) {
        for (int j = lane; j < g->ow; j += LANES) {
            const KT_VEC v = KT_WIDEST(_take)(dy + (row * g->ow + j) * KT_WIDE, 1);
            const int at = (row * g->sh * columns + j * g->sw) * KT_WIDE;
#define STEP(t) a##t = KT_WIDEST(_mac)(a##t, KT_WIDEST(_take)(x[t] + at, 1), v);
            EACH(STEP)
        }
    }
#define STORE(t) KT_WIDEST(_put)(s[t][lane], 1, a##t);
    EACH(STORE)
}

/* lanes_sum of every channel. */
static inline void lanes_sums(float (*s)[KT_WIDE], float *sums)
{
    KT_VEC t[4];
    for (int l = 0; l < 4; l++) {
        const KT_VEC low = KT_WIDEST(_add)(KT_WIDEST(_take)(s[l], 1), KT_WIDEST(_take)(s[l + 8], 1));
        t[l] = KT_WIDEST(_add)(low, KT_WIDEST(_add)(KT_WIDEST(_take)(s[l + 4], 1), KT_WIDEST(_take)(s[l + 12], 1)));
    }
    KT_WIDEST(_put)(sums, 1, KT_WIDEST(_add)(KT_WIDEST(_add)(t[0], t[1]), KT_WIDEST(_add)(t[2], t[3])));
}

/* dL/dy of `count` trained channels from place `first` on, as pixels. */
static void gradients_in(const kt_conv *g, const kt_slice *slice, const float *dy, int first, int count, float *pixels)
{
    const kt_frame whole = {0, 0, g->oh, g->ow};
    const int n = g->oh * g->ow;
    float planes[KT_UNFRAMED];
    for (int c = 0; c < count; c++) {
        memcpy(planes + c * n, dy + slice->index[first + c] * n, (size_t)n * sizeof *dy);
    }
    kt_bundle_in(&whole, planes, count, g->oh, g->ow, pixels);
}

/* `count` trained channels of a depthwise convolution side by side. */
static void bundle(const kt_conv *g, const kt_frame *a, const kt_slice *slice, const float *dy, const float *scale, int first, int count)
{
    const int taps = g->kh * g->kw;
    float pixels[KT_BUNDLE], gradients[KT_UNFRAMED], s[NINE][LANES][KT_WIDE], sums[KT_WIDE];
    const float *x[NINE];
    kt_fill(s[0][0], 0.0f, NINE * LANES * KT_WIDE);
    kt_bundle_in(a, slice->kept + first * g->h * g->w, count, g->h, g->w, pixels);
    gradients_in(g, slice, dy, first, count, gradients);
    for (int t = 0; t < taps; t += NINE) {
        for (int i = 0; i < NINE; i++) {
            const int tap = kt_least(t + i, taps - 1);
            x[i] = pixels + (tap / g->kw * g->dh * a->columns + tap % g->kw * g->dw) * KT_WIDE;
        }
        for (int lane = 0; lane < kt_least(g->ow, LANES); lane++) {
            nine_taps_of_pixels(g, a->columns, x, gradients, lane, s);
        }
        for (int i = 0; i < NINE && t + i < taps; i++) {
            float *const gradient = slice->gradient + first * taps + t + i;
            lanes_sums(s[i], sums);
            for (int c = 0; c < count; c++) {
                gradient[c * taps] = KT_FMA(gradient[c * taps], scale ? scale[slice->index[first + c]] : 1.0f, sums[c]);
            }
        }
    }
}

static void in_bundles(const kt_conv *g, const kt_frame *a, const kt_slice *slice, const float *dy, const float *scale)
{
    KT_SHARED
    for (int first = 0; first < slice->count; first += KT_WIDE) {
        bundle(g, a, slice, dy, scale, first, kt_least(slice->count - first, KT_WIDE));
    }
}

/* Sums of nine taps, the last one again where there are fewer. Not inlined: then the sums are in registers. dy: rows of `width`, zeros
   behind ow. */
#define EACH_TAP(t)                                                                         \
    KT_VEC a##t = KT_WIDEST(_all)(0.0f);                                                    \
    const float *const x##t = plane + a->offset[first + t < a->taps ? first + t : a->taps - 1];
#define SUM(t) a##t = KT_WIDEST(_mac)(a##t, KT_WIDEST(_take)(x##t + at, 1), u);
#define PUT(t) KT_WIDEST(_put)(s[t] + l, 1, a##t);
static KT_OUTLINE void nine_taps(const kt_conv *g, const kt_flat *a, const float *plane, const float *dy, int width, int first,
                                 float (*s)[LANES])
{
    for (int l = 0; l < LANES; l += KT_WIDE) {
        EACH(EACH_TAP)
        for (int row = 0; row < g->oh; row++) {
            for (int j = l; j < g->ow; j += LANES) {
                const KT_VEC u = KT_WIDEST(_take)(dy + row * width + j, 1);
                const int at = row * a->columns + j;
                EACH(SUM)
            }
        }
        EACH(PUT)
    }
}

/* The same for two outputs: what was read is used twice. */
#define ANOTHER(t) KT_VEC b##t = a##t;
#define BOTH(t)                                                  \
    {                                                            \
        const KT_VEC x = KT_WIDEST(_take)(x##t + at, 1);         \
        a##t = KT_WIDEST(_mac)(a##t, x, u);                      \
        b##t = KT_WIDEST(_mac)(b##t, x, v);                      \
    }
#define PUT_ANOTHER(t) KT_WIDEST(_put)(s[NINE + t] + l, 1, b##t);
static KT_OUTLINE void nine_taps_twice(const kt_conv *g, const kt_flat *a, const float *plane, const float *dy, int first,
                                       float (*s)[LANES])
{
    const float *const second = dy + g->oh * g->ow;
    for (int l = 0; l < LANES; l += KT_WIDE) {
        EACH(EACH_TAP)
        EACH(ANOTHER)
        for (int row = 0; row < g->oh; row++) {
            for (int j = l; j < g->ow; j += LANES) {
                const KT_VEC u = KT_WIDEST(_take)(dy + row * g->ow + j, 1), v = KT_WIDEST(_take)(second + row * g->ow + j, 1);
                const int at = row * a->columns + j;
                EACH(BOTH)
            }
        }
        EACH(PUT)
        EACH(PUT_ANOTHER)
    }
}

/* The gradients of one or two outputs from their dL/dy on. Returns those behind. */
static float *some_outputs(const kt_conv *g, const kt_flat *a, const float *plane, const float *dy, int width, const float *scale,
                           int outputs, float *gradient)
{
    for (int first = 0; first < a->taps; first += NINE) {
        float s[2 * NINE][LANES];
        if (outputs == 1) {
            nine_taps(g, a, plane, dy, width, first, s);
        } else {
            nine_taps_twice(g, a, plane, dy, first, s);
        }
        for (int o = 0; o < outputs; o++) {
            for (int t = 0; t < NINE && first + t < a->taps; t++) {
                float *const to = gradient + o * a->taps + first + t;
                *to = KT_FMA(*to, scale ? scale[o] : 1.0f, lanes_sum(s[o * NINE + t]));
            }
        }
    }
    return gradient + outputs * a->taps;
}

/* dy (oh,ow) of one output with rows of `width`, in `to` if they have another length. */
static const float *widened(const kt_conv *g, const float *dy, int width, float *to)
{
    for (int row = 0; row < g->oh && width != g->ow; row++) {
        kt_apart(to + row * width, dy + row * g->ow, 1, g->ow);
    }
    return width == g->ow ? dy : to;
}

/* `count` trained channels from place `first` on, some of them at once; the zeros around them stay. */
static void some_planes(const kt_conv *g, const kt_flat *a, const kt_slice *slice, const float *dy, const float *scale, int first,
                        int count, int width)
{
    const int inputs = g->c / g->groups, outputs = g->o / g->groups, size = kt_flat_size(g, a), wide = g->oh * width;
    const int step = kt_planes(size > wide ? size : wide, count), end = first + count;
    float planes[KT_FLAT], padded[KT_FLAT], *gradient = slice->gradient + first * outputs * a->taps;
    const float *from[KT_PLANES];
    kt_fill(planes, 0.0f, size * step);
    kt_fill(padded, 0.0f, wide * step);
    for (; first < end; first += step) {
        const int n = kt_least(end - first, step);
        for (int k = 0; k < n; k++) {
            kt_flat_fill(g, a, slice->kept + (first + k) * g->h * g->w, planes + k * size);
            from[k] = widened(g, dy + slice->index[first + k] / inputs * outputs * g->oh * g->ow, width, padded + k * wide);
        }
        for (int k = 0; k < n; k++) {
            const int row = slice->index[first + k] / inputs * outputs;
            for (int o = row, at_once; o < row + outputs; o += at_once) {
                at_once = width == g->ow && o + 1 < row + outputs ? 2 : 1;
                if (o > row) {
                    from[k] = widened(g, dy + o * g->oh * g->ow, width, padded + k * wide);
                }
                gradient = some_outputs(g, a, planes + k * size, from[k], width, scale ? scale + o : NULL, at_once, gradient);
            }
        }
    }
}

static void in_planes(const kt_conv *g, const kt_flat *a, const kt_slice *slice, const float *dy, const float *scale)
{
    const int width = (g->ow + LANES - 1) / LANES * LANES;
    KT_SHARED
    for (int first = 0; first < slice->count; first += KT_SHARE) {
        some_planes(g, a, slice, dy, scale, first, kt_least(slice->count - first, KT_SHARE), width);
    }
}
#endif

/* The sum over one tap. sw is a constant where that is common. */
static inline float one_tap(const kt_conv *g, const float *x, const float *dy, int k, int t, int sw)
{
    const int shift = t * g->dw - g->left;
    const int low = shift < 0 ? (-shift + sw - 1) / sw : 0;
    int high = g->w > shift ? (g->w - 1 - shift) / sw + 1 : 0;
    float s[LANES] = {0};
    high = high < g->ow ? high : g->ow;
    for (int row = 0; row < g->oh; row++) {
        const int line = row * g->sh + k * g->dh - g->top;
        if (line >= 0 && line < g->h) {
            const float *const from = x + line * g->w + shift, *const by = dy + row * g->ow;
            for (int j = low; j < high; j++) {
                s[j & 15] = KT_FMA(s[j & 15], from[j * sw], by[j]);
            }
        }
    }
    return lanes_sum(s);
}

/* gradient (count, o/groups, kh, kw) += scale (o) * correlation of kept (count,h,w) with dy (o,oh,ow); scale NULL: 1. */
void kt_conv2d_weight_grad(const kt_conv *g, const kt_slice *slice, const float *dy, const float *scale)
{
    const int inputs = g->c / g->groups, outputs = g->o / g->groups, taps = g->kh * g->kw;
    float *gradient = slice->gradient;
#if KT_VECTORS
    const kt_frame frame = kt_frame_of_inputs(g);
    if (inputs == 1 && outputs == 1 && g->ow < LANES && kt_bundle_fits(&frame, g->oh * g->ow)) {
        in_bundles(g, &frame, slice, dy, scale);
        return;
    }
    const kt_flat a = kt_flat_of(g);
    if (kt_flat_fits(g, &a) && g->oh * ((g->ow + LANES - 1) / LANES) * LANES <= KT_FLAT) {
        in_planes(g, &a, slice, dy, scale);
        return;
    }
#endif
    for (int k = 0; k < slice->count; k++) {
        const int first = slice->index[k] / inputs * outputs;
        const float *const x = slice->kept + k * g->h * g->w;
        for (int o = first; o < first + outputs; o++) {
            const float factor = scale ? scale[o] : 1.0f;
            for (int tap = 0; tap < taps; tap++, gradient++) {
                const float *const from = dy + o * g->oh * g->ow;
                const float sum = g->sw == 1 ? one_tap(g, x, from, tap / g->kw, tap % g->kw, 1)
                                             : one_tap(g, x, from, tap / g->kw, tap % g->kw, g->sw);
                *gradient = KT_FMA(*gradient, factor, sum);
            }
        }
    }
}
