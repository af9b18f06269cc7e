/* What kt_line and kt_line_strided are given, and their loops. */
#include "kt_line.h"

/* Tiles with more rows than there are sums are worked on in parts; there are `weights` of a depth then. */
#define KT_IN_PARTS (KT_ROWS > KT_SUMS)

typedef struct {
    float *y;
    const float *x, *w, *first;
    size_t ys, xs;
    int depth, n;
#if KT_IN_PARTS
    int weights;
#endif
} kt_span;

#if KT_IN_PARTS
#define KT_WEIGHTS(rows) s->weights

/* The rows from r on. */
static inline kt_span kt_part_of(int r, int rows, int depth, float *y, size_t ys, const float *x, size_t xs, const float *w,
                                 const float *first, int n)
{
    const kt_span span = {y + (size_t)r * ys, x, w + r, first ? first + r : NULL, ys, xs, depth, n, rows};
    return span;
}
#else
#define KT_WEIGHTS(rows) (rows)
#endif

#define KT_EACH1(DO) DO(0)
#define KT_EACH4(DO) DO(0) DO(1) DO(2) DO(3)
#define KT_EACH8(DO) KT_EACH4(DO) DO(4) DO(5) DO(6) DO(7)
#define KT_JOINED(a, b) a##b
#define KT_JOIN(a, b) KT_JOINED(a, b)

#define KT_T kt_one
#define KT_W 1
#include "kt_line_rows.inc"
#define KT_T kt_quad
#define KT_W 4
#include "kt_line_rows.inc"
#ifdef KT_OCTETS
#define KT_T kt_octet
#define KT_W 8
#include "kt_line_rows.inc"
#endif
#ifdef KT_SIXTEENS
#define KT_T kt_sixteen
#define KT_W 16
#include "kt_line_rows.inc"
#endif

#if defined(KT_SIXTEENS)
#define KT_WIDER(s, p, rows, sx, sy) kt_octet_##rows(s, kt_sixteen_##rows(s, p, sx, sy), sx, sy)
#elif defined(KT_OCTETS)
#define KT_WIDER(s, p, rows, sx, sy) kt_octet_##rows(s, p, sx, sy)
#else
#define KT_WIDER(s, p, rows, sx, sy) p
#endif

/* The line from pixel p on: as wide as possible, then what is left. rows, sx and sy are constants where this is inlined. */
#define KT_WHOLE(rows)                                                                     \
    KT_INLINE void kt_whole_##rows(const kt_span *s, int p, int sx, int sy)                \
    {                                                                                      \
        kt_one_##rows(s, kt_quad_##rows(s, KT_WIDER(s, p, rows, sx, sy), sx, sy), sx, sy); \
    }

KT_WHOLE(1)
KT_WHOLE(4)
#if KT_SUMS == 8
KT_WHOLE(8)
#define KT_EACH_ROWS(rows, s, p, sx, sy)           \
    switch (rows) {                                \
    case 8: kt_whole_8(s, p, sx, sy); break;       \
    case 4: kt_whole_4(s, p, sx, sy); break;       \
    default: kt_whole_1(s, p, sx, sy); break;      \
    }
#else
#define KT_EACH_ROWS(rows, s, p, sx, sy)           \
    switch (rows) {                                \
    case 4: kt_whole_4(s, p, sx, sy); break;       \
    default: kt_whole_1(s, p, sx, sy); break;      \
    }
#endif
