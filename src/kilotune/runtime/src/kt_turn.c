#include "kt_line.h"

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLES KT_VECTORS
#endif
#endif
#ifndef SHUFFLES
#define SHUFFLES 0
#endif

/* Numbers j.. of `rows` rows, one after the other. */
static inline void one_by_one(const float *from, size_t row, int j, int rows, int n, float *to, int step)
{
    for (; j < n; j++) {
        for (int r = 0; r < rows; r++) {
            to[j * step + r] = from[(size_t)r * row + (size_t)j];
        }
    }
}

#if SHUFFLES
#if defined(KT_OCTETS)
/* Four numbers of a row, and of the fourth row behind it. */
static inline kt_octet two_rows(const float *from, size_t row)
{
    return __builtin_shufflevector(kt_quad_take(from, 1), kt_quad_take(from + 4 * row, 1), 0, 1, 2, 3, 4, 5, 6, 7);
}
#endif
#if defined(KT_SIXTEENS)
/* And of the eighth and twelfth. */
static inline kt_sixteen four_rows(const float *from, size_t row)
{
    return __builtin_shufflevector(two_rows(from, row), two_rows(from + 8 * row, row), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}
#endif

/* What becomes of two vectors whose fours are turned: numbers 0 and 1 of both in turn, or 2 and 3; the first pairs of both, or the
   second. */
#define EVEN_4 0, 4, 1, 5
#define ODD_4 2, 6, 3, 7
#define LOW_4 0, 1, 4, 5
#define HIGH_4 2, 3, 6, 7
#define EVEN_8 0, 8, 1, 9, 4, 12, 5, 13
#define ODD_8 2, 10, 3, 11, 6, 14, 7, 15
#define LOW_8 0, 1, 8, 9, 4, 5, 12, 13
#define HIGH_8 2, 3, 10, 11, 6, 7, 14, 15
#define EVEN_16 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29
#define ODD_16 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31
#define LOW_16 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define HIGH_16 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31

/* From row r on as long as there are N of them, four numbers at a time; TAKE: those of every fourth of N rows. The first row left. */
#define BY_ROWS(N, T, TAKE)                                                                                                       \
    static inline int by_##N##_rows(const float *from, size_t row, int r, int rows, int n, float *to, int step)                   \
    {                                                                                                                             \
        const int whole = n / 4 * 4;                                                                                              \
        for (; r + N <= rows; r += N) {                                                                                           \
            const float *const start = from + (size_t)r * row;                                                                    \
            for (int j = 0; j < whole; j += 4) {                                                                                  \
                float *const at = to + j * step + r;                                                                              \
                const T a = TAKE(start + j, row), b = TAKE(start + row + j, row);                                                 \
                const T c = TAKE(start + 2 * row + j, row), d = TAKE(start + 3 * row + j, row);                                   \
                const T e = __builtin_shufflevector(a, b, EVEN_##N), f = __builtin_shufflevector(c, d, EVEN_##N);                 \
                const T g = __builtin_shufflevector(a, b, ODD_##N), h = __builtin_shufflevector(c, d, ODD_##N);                   \
                T##_put(at, 1, __builtin_shufflevector(e, f, LOW_##N));                                                           \
                T##_put(at + step, 1, __builtin_shufflevector(e, f, HIGH_##N));                                                   \
                T##_put(at + 2 * step, 1, __builtin_shufflevector(g, h, LOW_##N));                                                \
                T##_put(at + 3 * step, 1, __builtin_shufflevector(g, h, HIGH_##N));                                               \
            }                                                                                                                     \
            one_by_one(start, row, whole, N, n, to + r, step);                                                                    \
        }                                                                                                                         \
        return r;                                                                                                                 \
    }
#define ONE_ROW(from, row) kt_quad_take(from, 1)
BY_ROWS(4, kt_quad, ONE_ROW)
#if defined(KT_OCTETS)
BY_ROWS(8, kt_octet, two_rows)
#endif
#if defined(KT_SIXTEENS)
BY_ROWS(16, kt_sixteen, four_rows)
#endif
#endif

void kt_turn(const float *from, size_t row, int rows, int n, float *to, int step)
{
    int r = 0;
#if SHUFFLES
#if defined(KT_SIXTEENS)
    r = by_16_rows(from, row, r, rows, n, to, step);
#endif
#if defined(KT_OCTETS)
    r = by_8_rows(from, row, r, rows, n, to, step);
#endif
    r = by_4_rows(from, row, r, rows, n, to, step);
#endif
    one_by_one(from + (size_t)r * row, row, 0, rows - r, n, to + r, step);
}
