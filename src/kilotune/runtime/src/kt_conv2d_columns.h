/* Inputs of a convolution as columns: one row for each tap of each channel, one number for each pixel of the output. */
#include "kt_line.h"

#define KT_COLUMNS 256 /* pixels, and taps, of a panel */
#define KT_COLUMN_TAPS 32

/* to[j] = x[(first + j) * step + shift] inside 0..w, else 0, for j < n; x is NULL for a row of zeros. step is a constant where that is
   common. */
KT_INLINE void kt_spread_by(int step, float *to, const float *x, int first, int n, int shift, int w)
{
    int low = shift < 0 ? (-shift + step - 1) / step : 0, high = w > shift ? (w - 1 - shift) / step + 1 : 0;
    low = low > first ? low - first : 0;
    high = high > first ? high - first : 0;
    low = low < n ? low : n;
    high = !x || high < low ? low : high < n ? high : n;
    kt_fill(to, 0.0f, low);
    for (int j = low; j < high; j++) {
        to[j] = x[(first + j) * step + shift];
    }
    kt_fill(to + high, 0.0f, n - high);
}

static inline void kt_spread(float *to, const float *x, int first, int n, int step, int shift, int w)
{
    switch (step) {
    case 1: kt_spread_by(1, to, x, first, n, shift, w); break;
    case 2: kt_spread_by(2, to, x, first, n, shift, w); break;
    default: kt_spread_by(step, to, x, first, n, shift, w); break;
    }
}

/* One row of a panel: tap (k, t) of the plane x for pixels `first`.. of a row of the output, and on. */
static inline void kt_column_row(const kt_conv *g, const float *x, int k, int t, int row, int first, int n, float *to)
{
    for (int at = 0, part; at < n; at += part, row++, first = 0) {
        const int line = row * g->sh + k * g->dh - g->top;
        part = g->ow - first < n - at ? g->ow - first : n - at;
        kt_spread(to + at, line >= 0 && line < g->h ? x + line * g->w : NULL, first, part, g->sw, t * g->dw - g->left, g->w);
    }
}

/* panel (depth, KT_COLUMNS): taps d.. of the channels of a group, pixels p.. */
static inline void kt_columns(const kt_conv *g, const float *x, int d, int depth, int p, int n, float *panel)
{
    const int taps = g->kh * g->kw, row = p / g->ow, first = p % g->ow;
    for (int e = d; e < d + depth; e++, panel += KT_COLUMNS) {
        kt_column_row(g, x + e / taps * g->h * g->w, e % taps / g->kw, e % taps % g->kw, row, first, n, panel);
    }
}
