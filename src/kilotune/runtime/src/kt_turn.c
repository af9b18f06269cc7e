#include "kt_line.h"

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLES KT_VECTORS
#endif
#endif
#ifndef SHUFFLES
#define SHUFFLES 0
#endif

#if SHUFFLES
/* Four numbers of each of four rows. */
static inline void four_rows(const float *from, size_t row, float *to, int step)
{
    const kt_quad a = kt_quad_take(from, 1), b = kt_quad_take(from + row, 1);
    const kt_quad c = kt_quad_take(from + 2 * row, 1), d = kt_quad_take(from + 3 * row, 1);
    const kt_quad e = __builtin_shufflevector(a, b, 0, 4, 1, 5), f = __builtin_shufflevector(c, d, 0, 4, 1, 5);
    const kt_quad g = __builtin_shufflevector(a, b, 2, 6, 3, 7), h = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    kt_quad_put(to, 1, __builtin_shufflevector(e, f, 0, 1, 4, 5));
    kt_quad_put(to + step, 1, __builtin_shufflevector(e, f, 2, 3, 6, 7));
    kt_quad_put(to + 2 * step, 1, __builtin_shufflevector(g, h, 0, 1, 4, 5));
    kt_quad_put(to + 3 * step, 1, __builtin_shufflevector(g, h, 2, 3, 6, 7));
}

#if defined(KT_OCTETS)
/* Four numbers of a row, and of the fourth row behind it. */
static inline kt_octet two_rows(const float *from, size_t row)
{
    return __builtin_shufflevector(kt_quad_take(from, 1), kt_quad_take(from + 4 * row, 1), 0, 1, 2, 3, 4, 5, 6, 7);
}

/* Four numbers of each of eight rows. */
static inline void eight_rows(const float *from, size_t row, float *to, int step)
{
    const kt_octet a = two_rows(from, row), b = two_rows(from + row, row);
    const kt_octet c = two_rows(from + 2 * row, row), d = two_rows(from + 3 * row, row);
    const kt_octet e = __builtin_shufflevector(a, b, 0, 8, 1, 9, 4, 12, 5, 13);
    const kt_octet f = __builtin_shufflevector(c, d, 0, 8, 1, 9, 4, 12, 5, 13);
    const kt_octet g = __builtin_shufflevector(a, b, 2, 10, 3, 11, 6, 14, 7, 15);
    const kt_octet h = __builtin_shufflevector(c, d, 2, 10, 3, 11, 6, 14, 7, 15);
    kt_octet_put(to, 1, __builtin_shufflevector(e, f, 0, 1, 8, 9, 4, 5, 12, 13));
    kt_octet_put(to + step, 1, __builtin_shufflevector(e, f, 2, 3, 10, 11, 6, 7, 14, 15));
    kt_octet_put(to + 2 * step, 1, __builtin_shufflevector(g, h, 0, 1, 8, 9, 4, 5, 12, 13));
    kt_octet_put(to + 3 * step, 1, __builtin_shufflevector(g, h, 2, 3, 10, 11, 6, 7, 14, 15));
}
#endif

#if defined(KT_SIXTEENS)
/* Four numbers of a row, and of the fourth, eighth and twelfth row behind it. */
static inline kt_sixteen four_apart(const float *from, size_t row)
{
    return __builtin_shufflevector(two_rows(from, row), two_rows(from + 8 * row, row), 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
}

#define EVEN(a, b) __builtin_shufflevector(a, b, 0, 16, 1, 17, 4, 20, 5, 21, 8, 24, 9, 25, 12, 28, 13, 29)
#define ODD(a, b) __builtin_shufflevector(a, b, 2, 18, 3, 19, 6, 22, 7, 23, 10, 26, 11, 27, 14, 30, 15, 31)
#define LOW(a, b) __builtin_shufflevector(a, b, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define HIGH(a, b) __builtin_shufflevector(a, b, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)

/* Four numbers of each of sixteen rows. */
static inline void sixteen_rows(const float *from, size_t row, float *to, int step)
{
    const kt_sixteen a = four_apart(from, row), b = four_apart(from + row, row);
    const kt_sixteen c = four_apart(from + 2 * row, row), d = four_apart(from + 3 * row, row);
    const kt_sixteen e = EVEN(a, b), f = EVEN(c, d), g = ODD(a, b), h = ODD(c, d);
    kt_sixteen_put(to, 1, LOW(e, f));
    kt_sixteen_put(to + step, 1, HIGH(e, f));
    kt_sixteen_put(to + 2 * step, 1, LOW(g, h));
    kt_sixteen_put(to + 3 * step, 1, HIGH(g, h));
}
#endif
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

void kt_turn(const float *from, size_t row, int rows, int n, float *to, int step)
{
    int r = 0;
#if SHUFFLES
    const int whole = n / 4 * 4;
#if defined(KT_SIXTEENS)
    for (; r + 16 <= rows; r += 16, from += 16 * row, to += 16) {
        for (int j = 0; j < whole; j += 4) {
            sixteen_rows(from + j, row, to + j * step, step);
        }
        one_by_one(from, row, whole, 16, n, to, step);
    }
#endif
#if defined(KT_OCTETS)
    for (; r + 8 <= rows; r += 8, from += 8 * row, to += 8) {
        for (int j = 0; j < whole; j += 4) {
            eight_rows(from + j, row, to + j * step, step);
        }
        one_by_one(from, row, whole, 8, n, to, step);
    }
#endif
    for (; r + 4 <= rows; r += 4, from += 4 * row, to += 4) {
        for (int j = 0; j < whole; j += 4) {
            four_rows(from + j, row, to + j * step, step);
        }
        one_by_one(from, row, whole, 4, n, to, step);
    }
#endif
    one_by_one(from, row, 0, rows - r, n, to, step);
}
