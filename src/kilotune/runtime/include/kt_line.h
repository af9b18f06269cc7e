/* The inner loop of all convolutions: some rows of outputs, some depths of inputs, along a line of pixels. Every output adds its
   products in the order of the depths, whatever the blocking, so that blocking never changes a bit. */
#ifndef KT_LINE_H
#define KT_LINE_H

#include "kt_types.h"
#include "kt_vec.h"

/* Rows and depths of a tile of weights: as many as registers and the stack allow. */
#if KT_VECTORS
#define KT_ROWS 8
#define KT_DEPTH 128
#else
#define KT_ROWS 4
#define KT_DEPTH 48
#endif
#define KT_TILE (KT_ROWS * KT_DEPTH)

/* y[r*ys + p] = start + sum over d < depth of w[d*rows + r] * x[d*xs + p] for r < rows, p < n. rows is 1, 4 or KT_ROWS; start is
   first[r], or where first is NULL what y holds. */
void kt_line(int rows, int depth, float *y, size_t ys, const float *x, size_t xs, const float *w, const float *first, int n);

/* The same onto what y holds, with steps between pixels: y[r*ys + p*sy] += ... x[d*xs + p*sx]. */
void kt_line_strided(int rows, int depth, float *y, size_t ys, int sy, const float *x, size_t xs, int sx, const float *w, int n);

/* y[p] = value, p < n. */
static inline void kt_fill(float *y, float value, int n)
{
    for (int p = 0; p < n; p++) {
        y[p] = value;
    }
}

/* Where rows and depths end: as many as a tile has as long as they remain, then 4 or 1 (rows), or the rest (depths). */
static inline int kt_rows(int remaining) { return remaining >= KT_ROWS ? KT_ROWS : remaining >= 4 ? 4 : 1; }
static inline int kt_depths(int remaining) { return remaining >= KT_DEPTH ? KT_DEPTH : remaining; }

#endif
