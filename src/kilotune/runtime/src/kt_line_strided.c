#include "kt_line_loops.h"

void kt_line_strided(int rows, int depth, float *y, size_t ys, int sy, const float *x, size_t xs, int sx, const float *w, int n)
{
    const kt_span span = {y, x, w, NULL, ys, xs, depth, n}, *const s = &span;
    if (sx == 2 && sy == 1) {
        KT_EACH_ROWS(rows, s, 2, 1)
    } else if (sx == 1 && sy == 2) {
        KT_EACH_ROWS(rows, s, 1, 2)
    } else {
        KT_EACH_ROWS(rows, s, sx, sy)
    }
}
