/* Numbers that are worked on together: a vector register where the processor has some, four registers elsewhere. Each lane has the
   arithmetic of one number, so the width never changes a bit. */
#ifndef KT_VEC_H
#define KT_VEC_H

#include <string.h>

#include "kt_math.h"

/* For loops that are to be compiled once for each of their constant arguments, and for those that need all registers. */
#define KT_INLINE static inline __attribute__((always_inline))
#define KT_OUTLINE __attribute__((noinline))

/* Before a loop of which every pass writes its own numbers, or does where `apart`: with OpenMP passes are shared among threads, the
   numbers stay the same; without it this is plain C. */
#ifdef _OPENMP
#define KT_SHARED _Pragma("omp parallel for schedule(static)")
#define KT_SHARED_IF_APART _Pragma("omp parallel for schedule(static) if (apart)")
#else
#define KT_SHARED
#define KT_SHARED_IF_APART (void)apart;
#endif

#if defined(__SSE__) || defined(__aarch64__)
#define KT_VECTORS 1
#define KT_LANE(v, l) (v)[l]
#define KT_VECTOR_TYPE(T, W)                               \
    typedef float T __attribute__((vector_size(4 * (W)))); \
    typedef float T##_anywhere __attribute__((vector_size(4 * (W)), aligned(4), may_alias))
#define KT_LOAD(T, v, x) v = *(const T##_anywhere *)(x)
#define KT_STORE(T, y, v) *(T##_anywhere *)(y) = v
#else
#define KT_VECTORS 0
#define KT_LANE(v, l) (v).lane[l]
#define KT_VECTOR_TYPE(T, W) typedef struct { float lane[W]; } T
#define KT_LOAD(T, v, x) (void)0
#define KT_STORE(T, y, v) (void)0
#endif

/* T, W numbers: take and put with a step between them, all the same; a + b, a * b, acc + a * b, acc + w * x with one w. */
#define KT_VECTOR(T, W, SAME)                                                          \
    KT_VECTOR_TYPE(T, W);                                                              \
    KT_INLINE T T##_take(const float *x, int step)                                     \
    {                                                                                  \
        T v = {0};                                                                     \
        if (KT_VECTORS && step == 1) {                                                 \
            KT_LOAD(T, v, x);                                                          \
        } else {                                                                       \
            for (int l = 0; l < (W); l++) {                                            \
                KT_LANE(v, l) = x[l * step];                                           \
            }                                                                          \
        }                                                                              \
        return v;                                                                      \
    }                                                                                  \
    KT_INLINE T T##_all(float v)                                                       \
    {                                                                                  \
        const float at[W] = {SAME};                                                    \
        return T##_take(at, 1);                                                        \
    }                                                                                  \
    KT_INLINE void T##_put(float *y, int step, T v)                                    \
    {                                                                                  \
        if (KT_VECTORS && step == 1) {                                                 \
            KT_STORE(T, y, v);                                                         \
        } else {                                                                       \
            for (int l = 0; l < (W); l++) {                                            \
                y[l * step] = KT_LANE(v, l);                                           \
            }                                                                          \
        }                                                                              \
    }                                                                                  \
    KT_INLINE T T##_add(T a, T b)                                                      \
    {                                                                                  \
        T v = a;                                                                       \
        for (int l = 0; l < (W); l++) {                                                \
            KT_LANE(v, l) = KT_LANE(a, l) + KT_LANE(b, l);                             \
        }                                                                              \
        return v;                                                                      \
    }                                                                                  \
    KT_INLINE T T##_mul(T a, T b)                                                      \
    {                                                                                  \
        T v = a;                                                                       \
        for (int l = 0; l < (W); l++) {                                                \
            KT_LANE(v, l) = KT_LANE(a, l) * KT_LANE(b, l);                             \
        }                                                                              \
        return v;                                                                      \
    }                                                                                  \
    KT_INLINE T T##_step(T acc, float w, T x)                                          \
    {                                                                                  \
        T v = acc;                                                                     \
        for (int l = 0; l < (W); l++) {                                                \
            KT_LANE(v, l) = KT_FMA(KT_LANE(acc, l), w, KT_LANE(x, l));                 \
        }                                                                              \
        return v;                                                                      \
    }                                                                                  \
    KT_INLINE T T##_mac(T acc, T a, T b)                                               \
    {                                                                                  \
        T v = acc;                                                                     \
        for (int l = 0; l < (W); l++) {                                                \
            KT_LANE(v, l) = KT_FMA(KT_LANE(acc, l), KT_LANE(a, l), KT_LANE(b, l));     \
        }                                                                              \
        return v;                                                                      \
    }

#define KT_SAME4 v, v, v, v
#define KT_SAME8 KT_SAME4, KT_SAME4
#define KT_SAME16 KT_SAME8, KT_SAME8
KT_VECTOR(kt_quad, 4, KT_SAME4)
#if defined(__AVX__)
#define KT_OCTETS 1
KT_VECTOR(kt_octet, 8, KT_SAME8)
#endif
#if defined(__AVX512F__)
#define KT_SIXTEENS 1
KT_VECTOR(kt_sixteen, 16, KT_SAME16)
#endif

/* The widest of them. */
#if defined(KT_SIXTEENS)
#define KT_WIDE 16
#define KT_VEC kt_sixteen
#define KT_WIDEST(operation) kt_sixteen##operation
#elif defined(KT_OCTETS)
#define KT_WIDE 8
#define KT_VEC kt_octet
#define KT_WIDEST(operation) kt_octet##operation
#else
#define KT_WIDE 4
#define KT_VEC kt_quad
#define KT_WIDEST(operation) kt_quad##operation
#endif

/* One number, where the others end. */
typedef float kt_one;
KT_INLINE kt_one kt_one_take(const float *x, int step) 
{
    (void)step;
    return *x;
}
KT_INLINE kt_one kt_one_all(float value) { return value; }
KT_INLINE void kt_one_put(float *y, int step, kt_one v) 
{
    (void)step;
    *y = v;
}
KT_INLINE kt_one kt_one_step(kt_one acc, float w, kt_one x) { return KT_FMA(acc, w, x); }

#endif
