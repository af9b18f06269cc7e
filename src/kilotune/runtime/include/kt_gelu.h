/* GELU and its derivative, exact and by tanh; through kt_expf, so the same bits everywhere. */
#ifndef KT_GELU_H
#define KT_GELU_H

#include "kt_smooth.h"

/* P(normal number < x) = erfc(-x / sqrt 2) / 2 by the Chebyshev fit of Press et al., section 6.2: relative error below 1.2e-7, before
   rounding. */
static inline float kt_normal_below(float x)
{
    static const float c[10] = {0.17087277f, -0.82215223f, 1.48851587f, -1.13520398f, 0.27886807f,
                                -0.18628806f, 0.09678418f, 0.37409196f, 1.00002368f, -1.26551223f};
    const float z = (x < 0.0f ? -x : x) * 0.707106781f, t = 1.0f / KT_FMA(1.0f, 0.5f, z);
    float p = c[0];
    for (int i = 1; i < 10; i++) {
        p = KT_FMA(c[i], p, t);
    }
    const float tail = 0.5f * t * kt_expf(KT_FMA(p, -z, z));
    return x < 0.0f ? tail : 1.0f - tail;
}

static inline float kt_gelu_of(float x) { return x * kt_normal_below(x); }

static inline float kt_gelu_slope(float x)
{
    return KT_FMA(kt_normal_below(x), x * 0.398942280f, kt_expf(-0.5f * x * x));
}

/* tanh(sqrt(2 / pi) (x + 0.044715 x^3)) */
static inline float kt_gelu_bend(float x) { return kt_tanh_of(0.797884561f * KT_FMA(x, 0.044715f * x * x, x)); }

static inline float kt_gelu_tanh_of(float x) { return 0.5f * x * (1.0f + kt_gelu_bend(x)); }

static inline float kt_gelu_tanh_slope(float x)
{
    const float t = kt_gelu_bend(x), inner = 0.797884561f * KT_FMA(1.0f, 3.0f * 0.044715f * x, x);
    return KT_FMA(0.5f * (1.0f + t), 0.5f * x * (1.0f - t * t), inner);
}

#endif
