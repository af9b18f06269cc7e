#include "kt_line_loops.h"

static void some_rows(int rows, const kt_span *s, int sy, int sx)
{
    if (sx == 2 && sy == 1) {
        KT_EACH_ROWS(rows, s, 0, 2, 1)
    } else if (sx == 1 && sy == 2) {
        KT_EACH_ROWS(rows, s, 0, 1, 2)
    } else {
        KT_EACH_ROWS(rows, s, 0, sx, sy)
    }
}

void kt_line_strided(int rows, int depth, float *y, size_t ys, int sy, const float *x, size_t xs, int sx, const float *w, int n)
{
    const int at_once = rows < KT_SUMS ? rows : KT_SUMS;
    for (int r = 0; r < rows; r += at_once) {
        const kt_span span = {y + (size_t)r * ys, x, w + r, NULL, ys, xs, depth, n, rows};
        some_rows(at_once, &span, sy, sx);
    }
}
