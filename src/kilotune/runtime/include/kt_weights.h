/* How frozen weights are stored: float32, float16, or int8 with one scale per output channel. Arithmetic is in float32, on exactly
   the numbers that the stored ones stand for. */
#ifndef KT_WEIGHTS_H
#define KT_WEIGHTS_H

#include "kt_math.h"

/* IEEE half precision to float, exact for all finite numbers. */
static inline float kt_half(uint16_t half)
{
    const float magnitude = kt_float((uint32_t)(half & 0x7fffu) << 13) * 5.192296858534828e33f; /* 2^112 */
    return half & 0x8000u ? -magnitude : magnitude;
}

static inline float kt_get_f32(const float *weight, const float *scale, uint32_t i, int row)
{
    (void)scale;
    (void)row;
    return weight[i];
}

static inline float kt_get_f16(const uint16_t *weight, const float *scale, uint32_t i, int row)
{
    (void)scale;
    (void)row;
    return kt_half(weight[i]);
}

static inline float kt_get_s8(const int8_t *weight, const float *scale, uint32_t i, int row)
{
    return (float)weight[i] * scale[row];
}

#endif
