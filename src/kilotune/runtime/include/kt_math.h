/* Arithmetic with the same bits everywhere: one rounding per multiply-add, own exponential and logarithm, no libm. */
#ifndef KT_MATH_H
#define KT_MATH_H

#include <stdint.h>

/* a * b + acc, rounded once: a single instruction where the processor has one, the function below elsewhere. */
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__aarch64__) || defined(__riscv_flen)
#define KT_FMA(acc, a, b) __builtin_fmaf((a), (b), (acc))
#else
#define KT_FMA(acc, a, b) kt_fmaf((a), (b), (acc))
#endif

/* a * b + c, correctly rounded, for processors without the instruction. */
float kt_fmaf(float a, float b, float c);

/* e^x; at most 2 ulp from the true value. 0 below -87.33, the largest finite value above 88.72. */
float kt_expf(float x);

/* Natural logarithm of a positive normal number; at most 2 ulp from the true value. */
float kt_logf(float x);

/* The square root, correctly rounded; x >= 0. */
float kt_sqrtf(float x);

/* The bits of a float, and back. */
static inline uint32_t kt_bits(float x)
{
    union { float f; uint32_t u; } v;
    v.f = x;
    return v.u;
}

static inline float kt_float(uint32_t bits)
{
    union { float f; uint32_t u; } v;
    v.u = bits;
    return v.f;
}

#endif
