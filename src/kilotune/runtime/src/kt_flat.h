/* A plane of inputs as the taps of a convolution see it: with zeros around it, and taken apart by what rows and columns leave modulo
   the strides, so that for every tap the outputs read numbers that lie one behind the other. For processors with vectors. */
#ifndef KT_FLAT_H
#define KT_FLAT_H

#include "kt_bundle.h"

#define KT_FLAT 20480 /* numbers of the planes that are worked on in this way */
#define KT_PLANES 8   /* how many planes at once: what was just written is not at once read back */
#define KT_NEAR 9216  /* if together they are not more numbers than that: what was just written is still near */
#define KT_SHARE 32   /* channels that one thread works on */
#define KT_FLAT_STRIDE 4
#define KT_SPARE (4 * 16) /* numbers that are read, but not used, behind the last one */

/* Rows and columns of each part, distance of two parts, numbers of all outputs (some of them unused: rows have `columns` of them);
   for every step of a column, where in a row it is written, and how often. */
typedef struct {
    int rows, columns, part, n, taps, offset[KT_TAPS], to[KT_FLAT_STRIDE], length[KT_FLAT_STRIDE];
} kt_flat;

static inline kt_flat kt_flat_of(const kt_conv *g)
{
    kt_flat a;
    a.rows = ((g->oh - 1) * g->sh + (g->kh - 1) * g->dh) / g->sh + 1;
    a.columns = ((g->ow - 1) * g->sw + (g->kw - 1) * g->dw) / g->sw + 1;
    a.part = a.rows * a.columns;
    a.n = (g->oh - 1) * a.columns + g->ow;
    a.taps = g->kh * g->kw;
    for (int t = 0; t < a.taps; t++) {
        const int row = t / g->kw * g->dh, column = t % g->kw * g->dw;
        a.offset[t] = (row % g->sh * g->sw + column % g->sw) * a.part + row / g->sh * a.columns + column / g->sw;
    }
    for (int i = 0; i < g->sw && i < KT_FLAT_STRIDE; i++) {
        const int at = g->left + i, room = a.columns - at / g->sw, n = (g->w - i + g->sw - 1) / g->sw;
        a.to[i] = at % g->sw * a.part + at / g->sw;
        a.length[i] = n < room ? n : room;
    }
    return a;
}

/* Whether a plane is small enough, and has a common stride. */
static inline int kt_flat_fits(const kt_conv *g, const kt_flat *a)
{
    return g->sh <= KT_FLAT_STRIDE && g->sw <= KT_FLAT_STRIDE && g->sh * g->sw * a->part + KT_SPARE <= KT_FLAT;
}

static inline int kt_flat_size(const kt_conv *g, const kt_flat *a) { return g->sh * g->sw * a->part + KT_SPARE; }

/* How many planes of a size there is room for. */
static inline int kt_planes(int size, int remaining)
{
    const int room = size * KT_PLANES <= KT_NEAR ? KT_PLANES : size < KT_NEAR ? KT_NEAR / size : 1;
    return kt_least(remaining, room);
}

/* Whether no output plane lies where another input plane is. */
static inline int kt_apart_in_memory(const float *x, int inputs, const float *y, int outputs, int planes)
{
    return y + planes * outputs <= x || x + planes * inputs <= y || (x == y && inputs == outputs);
}

/* to[i] = x[i], i < n; common rows without a call. */
static inline void kt_move(float *restrict to, const float *restrict x, int n)
{
    switch (n) {
    case 4: memcpy(to, x, 4 * sizeof *x); break;
    case 8: memcpy(to, x, 8 * sizeof *x); break;
    case 16: memcpy(to, x, 16 * sizeof *x); break;
    case 32: memcpy(to, x, 32 * sizeof *x); break;
    case 64: memcpy(to, x, 64 * sizeof *x); break;
    default: memcpy(to, x, (size_t)n * sizeof *x); break;
    }
}

/* to[i] = x[i * step], i < n. */
static inline void kt_apart(float *restrict to, const float *restrict x, int step, int n)
{
    if (step == 1) {
        kt_move(to, x, n);
    } else {
        for (int i = 0; i < n; i++) {
            to[i] = x[i * step];
        }
    }
}

/* even[i] = x[2 * i], odd[i] = x[2 * i + 1], i < n. */
static inline void kt_unzip(float *restrict even, float *restrict odd, const float *restrict x, int n)
{
    for (int i = 0; i < n; i++) {
        even[i] = x[2 * i];
        odd[i] = x[2 * i + 1];
    }
}

/* The other way round. */
static inline void kt_zip(float *restrict x, const float *restrict even, const float *restrict odd, int n)
{
    for (int i = 0; i < n; i++) {
        x[2 * i] = even[i];
        x[2 * i + 1] = odd[i];
    }
}

/* to[i * step] = x[i], i < n. */
static inline void kt_together(float *restrict to, const float *restrict x, int step, int n)
{
    if (step == 1) {
        kt_move(to, x, n);
    } else {
        for (int i = 0; i < n; i++) {
            to[i * step] = x[i];
        }
    }
}

/* A row of x into place, by what columns leave modulo the stride. */
static inline void kt_flat_row(const kt_conv *g, const kt_flat *a, const float *x, float *start)
{
    int pairs = 0;
    if (g->sw == 2) {
        pairs = kt_least(a->length[0], a->length[1]);
        kt_unzip(start + a->to[0], start + a->to[1], x, pairs);
    }
    for (int i = 0; i < g->sw; i++) {
        kt_apart(start + a->to[i] + pairs, x + i + pairs * g->sw, g->sw, a->length[i] - pairs);
    }
}

/* x (h,w) into place; the zeros around it are there. */
static inline void kt_flat_fill(const kt_conv *g, const kt_flat *a, const float *x, float *plane)
{
    int down = g->top % g->sh, row = g->top / g->sh;
    for (int line = 0; line < g->h && row < a->rows; line++, x += g->w) {
        kt_flat_row(g, a, x, plane + down * g->sw * a->part + row * a->columns);
        if (++down == g->sh) {
            down = 0;
            row++;
        }
    }
}

/* The loop of kt_flat_run for any taps, and for nine of them, weights in registers. */
static inline void kt_flat_any(int taps, const int *offset, const float *plane, const float *f, const float *first, int n, float *out)
{
    for (int q = 0; q < n; q += 2 * KT_WIDE, plane += 2 * KT_WIDE) {
        KT_VEC a = first ? KT_WIDEST(_all)(*first) : KT_WIDEST(_take)(out + q, 1);
        KT_VEC b = first ? a : KT_WIDEST(_take)(out + q + KT_WIDE, 1);
        for (int t = 0; t < taps; t++) {
            a = KT_WIDEST(_step)(a, f[t], KT_WIDEST(_take)(plane + offset[t], 1));
            b = KT_WIDEST(_step)(b, f[t], KT_WIDEST(_take)(plane + offset[t] + KT_WIDE, 1));
        }
        KT_WIDEST(_put)(out + q, 1, a);
        KT_WIDEST(_put)(out + q + KT_WIDE, 1, b);
    }
}

#define KT_EACH_NINE(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8)

static inline void kt_flat_nine(const int *offset, const float *plane, const float *f, const float *first, int n, float *out)
{
#define KT_TAP(t) const float *const x##t = plane + offset[t]; const float w##t = f[t];
    KT_EACH_NINE(KT_TAP)
    for (int q = 0; q < n; q += 2 * KT_WIDE) {
        KT_VEC a = first ? KT_WIDEST(_all)(*first) : KT_WIDEST(_take)(out + q, 1);
        KT_VEC b = first ? a : KT_WIDEST(_take)(out + q + KT_WIDE, 1);
#define KT_ADD(t)                                                     \
    a = KT_WIDEST(_step)(a, w##t, KT_WIDEST(_take)(x##t + q, 1));     \
    b = KT_WIDEST(_step)(b, w##t, KT_WIDEST(_take)(x##t + q + KT_WIDE, 1));
        KT_EACH_NINE(KT_ADD)
        KT_WIDEST(_put)(out + q, 1, a);
        KT_WIDEST(_put)(out + q + KT_WIDE, 1, b);
    }
}

/* out[q] = start + sum over taps of f[t] * plane[offset[t] + q]; start: first, or where that is NULL what out holds. Writes whole
   blocks of KT_BLOCK numbers. */
#define KT_BLOCK (2 * KT_WIDE)
static inline void kt_flat_run(int taps, const int *offset, const float *plane, const float *f, const float *first, int n, float *out)
{
    if (taps == 9) {
        kt_flat_nine(offset, plane, f, first, n, out);
    } else {
        kt_flat_any(taps, offset, plane, f, first, n, out);
    }
}

#endif
