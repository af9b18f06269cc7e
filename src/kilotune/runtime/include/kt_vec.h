/* Numbers that are worked on together: a vector register where the processor has some, four registers elsewhere. Each lane has the
   arithmetic of one number, so the width never changes a bit. */
#ifndef KT_VEC_H
#define KT_VEC_H

#include <string.h>

#include "kt_math.h"

#if defined(__SSE__) || defined(__aarch64__)
#define KT_VECTORS 1
#define KT_LANE(v, l) (v)[l]
#define KT_VECTOR_TYPE(T, W) typedef float T __attribute__((vector_size(4 * (W))))
#else
#define KT_VECTORS 0
#define KT_LANE(v, l) (v).lane[l]
#define KT_VECTOR_TYPE(T, W) typedef struct { float lane[W]; } T
#endif

/* T, W numbers: take and put with a step between them, all the same; a * b, acc + a * b, acc + w * x with one w. */
#define KT_VECTOR(T, W, SAME)                                                      \
    KT_VECTOR_TYPE(T, W);                                                          \
    static inline T T##_take(const float *x, int step)                             \
    {                                                                              \
        T v;                                                                       \
        if (KT_VECTORS && step == 1) {                                             \
            memcpy(&v, x, sizeof v);                                               \
        } else {                                                                   \
            for (int l = 0; l < (W); l++) {                                        \
                KT_LANE(v, l) = x[l * step];                                       \
            }                                                                      \
        }                                                                          \
        return v;                                                                  \
    }                                                                              \
    static inline T T##_all(float v)                                               \
    {                                                                              \
        const float at[W] = {SAME};                                                \
        return T##_take(at, 1);                                                    \
    }                                                                              \
    static inline void T##_put(float *y, int step, T v)                            \
    {                                                                              \
        if (KT_VECTORS && step == 1) {                                             \
            memcpy(y, &v, sizeof v);                                               \
        } else {                                                                   \
            for (int l = 0; l < (W); l++) {                                        \
                y[l * step] = KT_LANE(v, l);                                       \
            }                                                                      \
        }                                                                          \
    }                                                                              \
    static inline T T##_mul(T a, T b)                                              \
    {                                                                              \
        T v;                                                                       \
        for (int l = 0; l < (W); l++) {                                            \
            KT_LANE(v, l) = KT_LANE(a, l) * KT_LANE(b, l);                         \
        }                                                                          \
        return v;                                                                  \
    }                                                                              \
    static inline T T##_step(T acc, float w, T x)                                  \
    {                                                                              \
        T v;                                                                       \
        for (int l = 0; l < (W); l++) {                                            \
            KT_LANE(v, l) = KT_FMA(KT_LANE(acc, l), w, KT_LANE(x, l));             \
        }                                                                          \
        return v;                                                                  \
    }                                                                              \
    static inline T T##_mac(T acc, T a, T b)                                       \
    {                                                                              \
        T v;                                                                       \
        for (int l = 0; l < (W); l++) {                                            \
            KT_LANE(v, l) = KT_FMA(KT_LANE(acc, l), KT_LANE(a, l), KT_LANE(b, l)); \
        }                                                                          \
        return v;                                                                  \
    }

#define KT_SAME4 v, v, v, v
KT_VECTOR(kt_quad, 4, KT_SAME4)
#if defined(__AVX__)
#define KT_OCTETS 1
#define KT_SAME8 KT_SAME4, KT_SAME4
KT_VECTOR(kt_octet, 8, KT_SAME8)
#endif
#if defined(__AVX512F__)
#define KT_SIXTEENS 1
#define KT_SAME16 KT_SAME8, KT_SAME8
KT_VECTOR(kt_sixteen, 16, KT_SAME16)
#endif

/* One number, where the others end. */
typedef float kt_one;
static inline kt_one kt_one_take(const float *x, int step) 
{
    (void)step;
    return *x;
}
static inline kt_one kt_one_all(float value) { return value; }
static inline void kt_one_put(float *y, int step, kt_one v) 
{
    (void)step;
    *y = v;
}
static inline kt_one kt_one_step(kt_one acc, float w, kt_one x) { return KT_FMA(acc, w, x); }

#endif
