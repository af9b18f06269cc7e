#include "kt_line_loops.h"

#if KT_IN_PARTS
/* All rows of two vectors: there are registers for as many sums, and a weight is loaded once for both. The first pixel left. */
static int in_pairs(const kt_span *s)
{
    const size_t ys = s->ys, xs = s->xs;
    int p = 0;
    for (; p + 2 * KT_WIDE <= s->n; p += 2 * KT_WIDE) {
        const float *restrict x = s->x + p, *restrict w = s->w, *const end = w + s->depth * s->weights;
        float *restrict y = s->y + p, *restrict z = y + KT_WIDE;
#define SUMS(r)                                                                             \
    KT_VEC a##r = s->first ? KT_WIDEST(_all)(s->first[r]) : KT_WIDEST(_take)(y + r * ys, 1); \
    KT_VEC b##r = s->first ? a##r : KT_WIDEST(_take)(z + r * ys, 1);
        KT_EACH8(SUMS)
        for (; w != end; x += xs, w += s->weights) {
            const KT_VEC u = KT_WIDEST(_take)(x, 1), v = KT_WIDEST(_take)(x + KT_WIDE, 1);
#define STEPS(r)                           \
    a##r = KT_WIDEST(_step)(a##r, w[r], u); \
    b##r = KT_WIDEST(_step)(b##r, w[r], v);
            KT_EACH8(STEPS)
        }
#define ENDS(r)                            \
    KT_WIDEST(_put)(y + r * ys, 1, a##r);  \
    KT_WIDEST(_put)(z + r * ys, 1, b##r);
        KT_EACH8(ENDS)
    }
    return p;
}

void kt_line(int rows, int depth, float *y, size_t ys, const float *x, size_t xs, const float *w, const float *first, int n)
{
    int r = 0;
    for (; r + KT_SUMS <= rows; r += KT_SUMS) {
        const kt_span span = kt_part_of(r, rows, depth, y, ys, x, xs, w, first, n);
        kt_whole_8(&span, in_pairs(&span), 1, 1);
    }
    if (r < rows) {
        const kt_span span = kt_part_of(r, rows, depth, y, ys, x, xs, w, first, n), *const s = &span;
        KT_EACH_ROWS(rows, s, 0, 1, 1)
    }
}
#else
void kt_line(int rows, int depth, float *y, size_t ys, const float *x, size_t xs, const float *w, const float *first, int n)
{
    const kt_span span = {y, x, w, first, ys, xs, depth, n}, *const s = &span;
    KT_EACH_ROWS(rows, s, 0, 1, 1)
}
#endif
