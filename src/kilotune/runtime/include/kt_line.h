/* The inner loop of all convolutions: some rows of outputs, some depths of inputs, along a line of pixels. Every output adds its
   products in the order of the depths, whatever the blocking, so that blocking never changes a bit. */
#ifndef KT_LINE_H
#define KT_LINE_H

#include "kt_types.h"
#include "kt_vec.h"

/* Rows and depths of a tile of weights: as many as cache lines and the stack allow; and how many rows have their sums in registers. */
#if KT_VECTORS
#define KT_SUMS 8
#define KT_DEPTH 128
#else
#define KT_SUMS 4
#define KT_DEPTH 48
#endif
#if defined(KT_SIXTEENS)
#define KT_ROWS 16
#else
#define KT_ROWS KT_SUMS
#endif
#define KT_TILE (KT_ROWS * KT_DEPTH)

/* y[r*ys + p] = start + sum over d < depth of w[d*rows + r] * x[d*xs + p] for r < rows, p < n. rows is what kt_rows says; start is
   first[r], or where first is NULL what y holds. */
void kt_line(int rows, int depth, float *y, size_t ys, const float *x, size_t xs, const float *w, const float *first, int n);

/* The same onto what y holds, with steps between pixels: y[r*ys + p*sy] += ... x[d*xs + p*sx]. */
void kt_line_strided(int rows, int depth, float *y, size_t ys, int sy, const float *x, size_t xs, int sx, const float *w, int n);

/* to[j*step + r] = from[r*row + j] for r < rows, j < n: some rows, turned. */
void kt_turn(const float *from, size_t row, int rows, int n, float *to, int step);

/* y[p] = value, p < n. */
static inline void kt_fill(float *y, float value, int n)
{
    for (int p = 0; p < n; p++) {
        y[p] = value;
    }
}

/* y[p] += x[p], p < n. */
static inline void kt_onto(float *y, const float *x, int n)
{
    int p = 0;
    for (; p + KT_WIDE <= n; p += KT_WIDE) {
        KT_WIDEST(_put)(y + p, 1, KT_WIDEST(_add)(KT_WIDEST(_take)(y + p, 1), KT_WIDEST(_take)(x + p, 1)));
    }
    for (; p + 4 <= n; p += 4) {
        kt_quad_put(y + p, 1, kt_quad_add(kt_quad_take(y + p, 1), kt_quad_take(x + p, 1)));
    }
    for (; p < n; p++) {
        y[p] += x[p];
    }
}

/* Where rows and depths end: as many as a tile has as long as they remain, then 8, 4 or 1 (rows), or the rest (depths). */
static inline int kt_rows(int remaining)
{
    return remaining >= KT_ROWS ? KT_ROWS : KT_ROWS > KT_SUMS && remaining >= KT_SUMS ? KT_SUMS : remaining >= 4 ? 4 : 1;
}

static inline int kt_depths(int remaining) { return remaining >= KT_DEPTH ? KT_DEPTH : remaining; }

#endif
