/* The loops of kt_line and kt_line_strided; rows, depth, steps and the nullness of first are constants where this is inlined. */
#include "kt_line.h"

static inline void kt_loop(int rows, int depth, float *restrict y, size_t ys, int sy, const float *const *x, int sx, kt_block w,
                           const float *first, int n)
{
#define KT_W(r, d) w.value[((r) < rows ? (r) * w.row : 0) + ((d) < depth ? (d) * w.depth : 0)]
    const float *restrict x0 = x[0], *restrict x1 = x[depth > 1], *restrict x2 = x[depth > 2 ? 2 : 0];
    const float *restrict x3 = x[depth > 3 ? 3 : 0];
    float *restrict y0 = y, *restrict y1 = y + (rows > 1) * ys, *restrict y2 = y + (rows > 2) * 2 * ys;
    float *restrict y3 = y + (rows > 3) * 3 * ys;
    const float w00 = KT_W(0, 0), w01 = KT_W(1, 0), w02 = KT_W(2, 0), w03 = KT_W(3, 0);
    const float w10 = KT_W(0, 1), w11 = KT_W(1, 1), w12 = KT_W(2, 1), w13 = KT_W(3, 1);
    const float w20 = KT_W(0, 2), w21 = KT_W(1, 2), w22 = KT_W(2, 2), w23 = KT_W(3, 2);
    const float w30 = KT_W(0, 3), w31 = KT_W(1, 3), w32 = KT_W(2, 3), w33 = KT_W(3, 3);
    const float f0 = first ? first[0] : 0, f1 = first && rows > 1 ? first[1] : 0;
    const float f2 = first && rows > 2 ? first[2] : 0, f3 = first && rows > 3 ? first[3] : 0;
#define KT_ROW(r)                                \
    do {                                         \
        float a = first ? f##r : y##r[p * sy];   \
        a = KT_FMA(a, w0##r, v0);                \
        a = depth > 1 ? KT_FMA(a, w1##r, v1) : a; \
        a = depth > 2 ? KT_FMA(a, w2##r, v2) : a; \
        a = depth > 3 ? KT_FMA(a, w3##r, v3) : a; \
        y##r[p * sy] = a;                        \
    } while (0)
    for (int p = 0; p < n; p++) {
        const float v0 = x0[p * sx], v1 = depth > 1 ? x1[p * sx] : 0;
        const float v2 = depth > 2 ? x2[p * sx] : 0, v3 = depth > 3 ? x3[p * sx] : 0;
        KT_ROW(0);
        if (rows > 1) {
            KT_ROW(1);
            KT_ROW(2);
            KT_ROW(3);
        }
    }
#undef KT_ROW
#undef KT_W
}

/* Calls LOOP(rows, depth) with constants. */
#define KT_EACH(rows, depth, LOOP)      \
    switch ((rows == 4) * 4 + depth) {  \
    case 8: LOOP(4, 4); break;          \
    case 7: LOOP(4, 3); break;          \
    case 6: LOOP(4, 2); break;          \
    case 5: LOOP(4, 1); break;          \
    case 4: LOOP(1, 4); break;          \
    case 3: LOOP(1, 3); break;          \
    case 2: LOOP(1, 2); break;          \
    default: LOOP(1, 1); break;         \
    }
