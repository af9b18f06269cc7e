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

/* n weights of `rows` outputs from `output` on, weight `first` of the first of them; `step` between outputs in memory. As floats: where they
   are, or in `to`; then there are n between outputs. */
static inline const float *kt_rows_f32(const float *weight, const float *scale, uint32_t first, int output, int rows, int n, int *step,
                                       float *to)
{
    (void)scale;
    (void)output;
    (void)rows;
    (void)n;
    (void)step;
    (void)to;
    return weight + first;
}

#define KT_ROWS_OF(suffix, type)                                                                                                     \
    static inline const float *kt_rows_##suffix(const type *weight, const float *scale, uint32_t first, int output, int rows, int n, \
                                                int *step, float *to)                                                                \
    {                                                                                                                                \
        for (int r = 0; r < rows; r++) {                                                                                             \
            for (int j = 0; j < n; j++) {                                                                                            \
                to[r * n + j] = kt_get_##suffix(weight, scale, first + (uint32_t)(r * *step + j), output + r);                       \
            }                                                                                                                        \
        }                                                                                                                            \
        *step = n;                                                                                                                   \
        return to;                                                                                                                   \
    }
KT_ROWS_OF(f16, uint16_t)
KT_ROWS_OF(s8, int8_t)

#endif
