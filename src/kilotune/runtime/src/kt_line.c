#include "kt_line_loops.h"

void kt_line(int rows, int depth, float *y, size_t ys, const float *x, size_t xs, const float *w, const float *first, int n)
{
    const kt_span span = {y, x, w, first, ys, xs, depth, n}, *const s = &span;
    KT_EACH_ROWS(rows, s, 1, 1)
}
