#include "kt_line_loops.h"

#define SOME_ROWS(rows, s)                   \
    if (sx == 2 && sy == 1) {                \
        KT_EACH_ROWS(rows, s, 0, 2, 1)       \
    } else if (sx == 1 && sy == 2) {         \
        KT_EACH_ROWS(rows, s, 0, 1, 2)       \
    } else {                                 \
        KT_EACH_ROWS(rows, s, 0, sx, sy)     \
    }

void kt_line_strided(int rows, int depth, float *y, size_t ys, int sy, const float *x, size_t xs, int sx, const float *w, int n)
{
#if KT_IN_PARTS
    const int at_once = rows < KT_SUMS ? rows : KT_SUMS;
    for (int r = 0; r < rows; r += at_once) {
        const kt_span span = kt_part_of(r, rows, depth, y, ys, x, xs, w, NULL, n), *const s = &span;
        SOME_ROWS(at_once, s)
    }
#else
    const kt_span span = {y, x, w, NULL, ys, xs, depth, n}, *const s = &span;
    SOME_ROWS(rows, s)
#endif
}
