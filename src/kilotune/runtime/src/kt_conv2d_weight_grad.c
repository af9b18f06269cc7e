#include "kt_flat.h"
#include "kt_kernels.h"

/* The products of a tap are summed in sixteen lanes, column j of the output in lane j % 16, row after row; then the lanes are added:
   l + (l + 8) and (l + 4) + (l + 12) for l < 4, and the four as (0 + 1) + (2 + 3). */
#define LANES 16

static inline float lanes_sum(const float *s)
{
    float t[4];
    for (int l = 0; l < 4; l++) {
        t[l] = (s[l] + s[l + 8]) + (s[l + 4] + s[l + 12]);
    }
    return (t[0] + t[1]) + (t[2] + t[3]);
}

#if KT_VECTORS

#define NINE 9 /* taps at once */
#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8)

/* Sums of nine taps, the last ones again where there are fewer. dy: rows of `width`, zeros behind ow. */
static void nine_taps(const kt_conv *g, const kt_flat *a, const float *plane, const float *dy, int width, int first, float (*s)[LANES])
{
    for (int l = 0; l < LANES; l += KT_WIDE) {
#define SUM(t)                                                                              \
    KT_VEC a##t = KT_WIDEST(_all)(0.0f);                                                    \
    const float *const x##t = plane + a->offset[first + t < a->taps ? first + t : a->taps - 1];
        EACH(SUM)
        for (int row = 0; row < g->oh; row++) {
            for (int j = l; j < g->ow; j += LANES) {
                const KT_VEC v = KT_WIDEST(_take)(dy + row * width + j, 1);
                const int at = row * a->columns + j;
#define MAC(t) a##t = KT_WIDEST(_mac)(a##t, KT_WIDEST(_take)(x##t + at, 1), v);
                EACH(MAC)
            }
        }
#define PUT(t) KT_WIDEST(_put)(s[t] + l, 1, a##t);
        EACH(PUT)
    }
}

static float *one_pair(const kt_conv *g, const kt_flat *a, const float *plane, const float *dy, int width, float factor, float *gradient)
{
    for (int first = 0; first < a->taps; first += NINE) {
        float s[NINE][LANES];
        nine_taps(g, a, plane, dy, width, first, s);
        for (int t = 0; t < NINE && first + t < a->taps; t++, gradient++) {
            *gradient = KT_FMA(*gradient, factor, lanes_sum(s[t]));
        }
    }
    return gradient;
}

static void flat(const kt_conv *g, const kt_flat *a, const kt_slice *slice, const float *dy, const float *scale)
{
    const int inputs = g->c / g->groups, outputs = g->o / g->groups, width = (g->ow + LANES - 1) / LANES * LANES;
    float plane[KT_FLAT], padded[KT_FLAT], *gradient = slice->gradient;
    kt_fill(plane, 0.0f, kt_flat_size(g, a));
    kt_fill(padded, 0.0f, g->oh * width);
    for (int k = 0; k < slice->count; k++) {
        const int first = slice->index[k] / inputs * outputs;
        kt_flat_fill(g, a, slice->kept + k * g->h * g->w, plane);
        for (int o = first; o < first + outputs; o++) {
            const float *from = dy + o * g->oh * g->ow;
            for (int row = 0; row < g->oh && width != g->ow; row++) {
                kt_apart(padded + row * width, from + row * g->ow, 1, g->ow);
            }
            gradient = one_pair(g, a, plane, width == g->ow ? from : padded, width, scale ? scale[o] : 1.0f, gradient);
        }
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
    const kt_flat a = kt_flat_of(g);
    if (kt_flat_size(g, &a) <= KT_FLAT && g->oh * ((g->ow + LANES - 1) / LANES) * LANES <= KT_FLAT) {
        flat(g, &a, slice, dy, scale);
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
