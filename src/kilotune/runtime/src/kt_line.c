#include "kt_line_loops.h"

void kt_line(int rows, int depth, float *y, size_t ys, const float *const *x, kt_block w, const float *first, int n)
{
#define KT_START(r, d) kt_loop(r, d, y, ys, 1, x, 1, w, first, n)
#define KT_GO_ON(r, d) kt_loop(r, d, y, ys, 1, x, 1, w, NULL, n)
    if (first) {
        KT_EACH(rows, depth, KT_START)
    } else {
        KT_EACH(rows, depth, KT_GO_ON)
    }
}
