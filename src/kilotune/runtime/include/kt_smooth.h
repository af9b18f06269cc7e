/* Smooth functions and their derivatives; through kt_expf, so the same bits everywhere. */
#ifndef KT_SMOOTH_H
#define KT_SMOOTH_H

#include "kt_math.h"

static inline float kt_sigmoid_of(float x) { return 1.0f / (1.0f + kt_expf(-x)); }

static inline float kt_tanh_of(float x)
{
    const float e = kt_expf(x > 0.0f ? -2.0f * x : 2.0f * x), t = (1.0f - e) / (1.0f + e);
    return x > 0.0f ? t : -t;
}

static inline float kt_silu_of(float x) { return x * kt_sigmoid_of(x); }

static inline float kt_silu_slope(float x)
{
    const float s = kt_sigmoid_of(x);
    return s * (1.0f + x * (1.0f - s));
}

static inline float kt_hardswish_of(float x)
{
    const float t = x + 3.0f;
    return x * (t > 0.0f ? (t < 6.0f ? t : 6.0f) : 0.0f) / 6.0f;
}

static inline float kt_hardswish_slope(float x)
{
    return x <= -3.0f ? 0.0f : (x >= 3.0f ? 1.0f : x / 3.0f + 0.5f);
}

/* From the output: y (1 - y), 1 - y^2. */
static inline float kt_sigmoid_slope(float y) { return (1.0f - y) * y; }
static inline float kt_tanh_slope(float y) { return 1.0f - y * y; }

#endif
