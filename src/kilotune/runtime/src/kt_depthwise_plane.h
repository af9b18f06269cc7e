/* One channel of a depthwise convolution, output row by output row through a ring of padded input rows, so that the output may
   lie where the input was. */
#include "kt_line.h"

/* Columns of a padded row and rows of the ring; twins of memory.lifetime.ring_elements. */
static inline int kt_ring_width(const kt_conv *g)
{
    const int reach = (g->ow - 1) * g->sw + (g->kw - 1) * g->dw + 1;
    return reach > g->left + g->w ? reach : g->left + g->w;
}

static inline int kt_ring_rows(const kt_conv *g) { return (g->kh - 1) * g->dh + 1; }

/* y[j] = start + taps of one ring row; start is first, or with add what y holds. */
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

static inline void kt_taps3(float *restrict y, const float *restrict x0, const float *restrict x1, const float *restrict x2,
                            const float *f, int sw, int n, const float *first)
{
    const float f0 = f[0], f1 = f[1], f2 = f[2], f3 = f[3], f4 = f[4], f5 = f[5], f6 = f[6], f7 = f[7], f8 = f[8];
    for (int j = 0; j < n; j++) {
        float a = first ? *first : y[j];
        a = KT_FMA(a, f0, x0[j * sw]);
        a = KT_FMA(a, f1, x0[j * sw + 1]);
        a = KT_FMA(a, f2, x0[j * sw + 2]);
        a = KT_FMA(a, f3, x1[j * sw]);
        a = KT_FMA(a, f4, x1[j * sw + 1]);
        a = KT_FMA(a, f5, x1[j * sw + 2]);
        a = KT_FMA(a, f6, x2[j * sw]);
        a = KT_FMA(a, f7, x2[j * sw + 1]);
        a = KT_FMA(a, f8, x2[j * sw + 2]);
        y[j] = a;
    }
}

/* The row kernels with constant width and stride where that is common. */
static inline void kt_depthwise_row(const kt_conv *g, float *y, const float *const *x, const float *f, const float *first)
{
    const int n = g->ow, sw = g->sw;
    if (g->kw == 3 && g->kh == 3 && g->dw == 1 && sw <= 2) {
        if (first) {
            sw == 1 ? kt_taps3(y, x[0], x[1], x[2], f, 1, n, first) : kt_taps3(y, x[0], x[1], x[2], f, 2, n, first);
        } else {
            kt_taps3(y, x[0], x[1], x[2], f, sw, n, NULL);
        }
        return;
    }
    for (int k = 0; k < g->kh; k++, first = NULL, f += g->kw) {
        if (g->kw == 5 && g->dw == 1 && sw == 1 && !first) {
            kt_taps(y, x[k], f, 5, 1, 1, n, NULL);
        } else if (g->kw == 7 && g->dw == 1 && sw == 1 && !first) {
            kt_taps(y, x[k], f, 7, 1, 1, n, NULL);
        } else {
            kt_taps(y, x[k], f, g->kw, sw, g->dw, n, first);
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
