#include "kt_line_loops.h"

void kt_line_strided(int rows, int depth, float *y, size_t ys, int sy, const float *const *x, int sx, kt_block w, int n)
{
#define KT_STRIDED(r, d) kt_loop(r, d, y, ys, sy, x, sx, w, NULL, n)
    KT_EACH(rows, depth, KT_STRIDED)
}
