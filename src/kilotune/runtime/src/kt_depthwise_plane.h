/* One channel of a depthwise convolution, output row by output row through a ring of padded input rows, so that the output may
   lie where the input was. */
#include "kt_flat.h"

/* Columns of a padded row and rows of the ring; twins of memory.lifetime.ring_elements. */
static inline int kt_ring_width(const kt_conv *g)
{
    const int reach = (g->ow - 1) * g->sw + (g->kw - 1) * g->dw + 1;
    return reach > g->left + g->w ? reach : g->left + g->w;
}

static inline int kt_ring_rows(const kt_conv *g) { return (g->kh - 1) * g->dh + 1; }

/* y[j] = start + taps of one ring row; start is first, or where that is NULL what y holds. */
static inline void kt_taps(float *restrict y, const float *restrict x, const float *restrict f, int kw, int sw, int dw, int n,
                           const float *first)
{
    for (int j = 0; j < n; j++) {
        float a = first ? *first : y[j];
        for (int t = 0; t < kw; t++) {
            a = KT_FMA(a, f[t], x[j * sw + t * dw]);
        }
        y[j] = a;
    }
}

/* The same for all taps of a 3x3 kernel. */
static inline void kt_taps3(float *restrict y, const float *restrict x0, const float *restrict x1, const float *restrict x2,
                            const float *restrict f, int sw, int n, const float *first)
{
    for (int j = 0; j < n; j++) {
        float a = first ? *first : y[j];
        for (int t = 0; t < 9; t++) {
            a = KT_FMA(a, f[t], (t < 3 ? x0 : t < 6 ? x1 : x2)[j * sw + t % 3]);
        }
        y[j] = a;
    }
}

#if KT_VECTORS || defined(__ARM_FEATURE_MVE)
#define KT_PLAIN 1 /* the compiler turns the plain loops into vectors */
#else
#define KT_PLAIN 0
#endif

/* Four outputs at a time: each number of the row is loaded once for all of them. The sums are those of kt_taps. */
static inline void kt_taps_by_four(float *restrict y, const float *restrict x, const float *restrict f, int kw, int sw, int n,
                                   const float *first)
{
    int j = 0;
    for (; j + 4 <= n && !KT_PLAIN; j += 4, x += 4 * sw, y += 4) {
        float a = first ? *first : y[0], b = first ? *first : y[1], c = first ? *first : y[2], d = first ? *first : y[3];
        for (int t = 0; t < kw; t++) {
            a = KT_FMA(a, f[t], x[t]);
            b = KT_FMA(b, f[t], x[sw + t]);
            c = KT_FMA(c, f[t], x[2 * sw + t]);
            d = KT_FMA(d, f[t], x[3 * sw + t]);
        }
        y[0] = a;
        y[1] = b;
        y[2] = c;
        y[3] = d;
    }
    kt_taps(y, x, f, kw, sw, 1, n - j, first);
}

static inline void kt_taps3_by_four(float *restrict y, const float *restrict x0, const float *restrict x1, const float *restrict x2,
                                    const float *restrict f, int sw, int n, const float *first)
{
    int j = 0;
    for (; j + 4 <= n && !KT_PLAIN; j += 4, x0 += 4 * sw, x1 += 4 * sw, x2 += 4 * sw, y += 4) {
        float a = first ? *first : y[0], b = first ? *first : y[1], c = first ? *first : y[2], d = first ? *first : y[3];
        for (int t = 0; t < 9; t++) {
            const float *const x = (t < 3 ? x0 : t < 6 ? x1 : x2) + t % 3;
            a = KT_FMA(a, f[t], x[0]);
            b = KT_FMA(b, f[t], x[sw]);
            c = KT_FMA(c, f[t], x[2 * sw]);
            d = KT_FMA(d, f[t], x[3 * sw]);
        }
        y[0] = a;
        y[1] = b;
        y[2] = c;
        y[3] = d;
    }
    kt_taps3(y, x0, x1, x2, f, sw, n - j, first);
}

/* The loops with constant width and stride where that is common. first: where every output starts; NULL: at what y holds. */
static inline void kt_depthwise_row(const kt_conv *g, float *y, const float *const *x, const float *f, const float *first)
{
    const int n = g->ow, sw = g->sw;
    if (g->kw == 3 && g->kh == 3 && g->dw == 1 && sw <= 2 && first) {
        if (sw == 1) {
            kt_taps3_by_four(y, x[0], x[1], x[2], f, 1, n, first);
        } else {
            kt_taps3_by_four(y, x[0], x[1], x[2], f, 2, n, first);
        }
        return;
    }
    if (first) {
        kt_fill(y, *first, n);
    }
    for (int k = 0; k < g->kh; k++, f += g->kw) {
        switch (g->dw == 1 ? g->kw * 4 + sw : 0) {
        case 5 * 4 + 1: kt_taps_by_four(y, x[k], f, 5, 1, n, NULL); break;
        case 5 * 4 + 2: kt_taps_by_four(y, x[k], f, 5, 2, n, NULL); break;
        case 7 * 4 + 1: kt_taps_by_four(y, x[k], f, 7, 1, n, NULL); break;
        case 7 * 4 + 2: kt_taps_by_four(y, x[k], f, 7, 2, n, NULL); break;
        default: kt_taps(y, x[k], f, g->kw, sw, g->dw, n, NULL); break;
        }
    }
}

/* y (oh,ow) from x (h,w) and f (kh,kw); y may be x where row r of y ends before the input rows not yet in the ring. */
static inline void kt_depthwise_plane(const kt_conv *g, const float *x, const float *f, const float *first, float *y, float *ring)
{
    const int width = kt_ring_width(g), rows = kt_ring_rows(g);
    kt_fill(ring, 0.0f, rows * width);
    for (int row = 0, next = -g->top; row < g->oh; row++) {
        const int top = row * g->sh - g->top;
        for (next = next < top ? top : next; next < top + rows; next++) {
            float *const line = ring + (next + g->top) % rows * width + g->left;
            if (next < 0 || next >= g->h) {
                kt_fill(line, 0.0f, g->w);
            } else {
                for (int j = 0; j < g->w; j++) {
                    line[j] = x[next * g->w + j];
                }
            }
        }
        const float *lines[KT_MAX_KERNEL];
        for (int k = 0; k < g->kh; k++) {
            lines[k] = ring + (top + g->top + k * g->dh) % rows * width;
        }
        kt_depthwise_row(g, y + row * g->ow, lines, f, first);
    }
}
