/* The inner loop of all convolutions: some rows of outputs, some depths of inputs, along a line of pixels. Every output adds its
   products in the order of the depths, whatever the blocking, so that blocking never changes a bit. */
#ifndef KT_LINE_H
#define KT_LINE_H

#include "kt_math.h"
#include "kt_types.h"

/* Weights of a block: element (row r, depth d) is at value[r * row + d * depth]. */
typedef struct {
    const float *value;
    int row, depth;
} kt_block;

/* y[r*ys + p] = start + sum over d < depth of w(r, d) * x[d][p] for r < rows, p < n. rows is 1 or 4, depth 1 to 4; start is
   first[r], or where first is NULL what y holds. */
void kt_line(int rows, int depth, float *y, size_t ys, const float *const *x, kt_block w, const float *first, int n);

/* The same onto what y holds, with steps between pixels: y[r*ys + p*sy] += ... x[d][p*sx]. */
void kt_line_strided(int rows, int depth, float *y, size_t ys, int sy, const float *const *x, int sx, kt_block w, int n);

/* y[p] = value, p < n. */
static inline void kt_fill(float *y, float value, int n)
{
    for (int p = 0; p < n; p++) {
        y[p] = value;
    }
}

/* Where rows and depths end: 4 as long as 4 remain, then 1 (rows) or the rest (depths). */
static inline int kt_rows(int remaining) { return remaining >= 4 ? 4 : 1; }
static inline int kt_depths(int remaining) { return remaining >= 4 ? 4 : remaining; }

#endif
