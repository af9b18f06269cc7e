#include "kt_math.h"

/* log x = k log 2 + log m with m in [sqrt 1/2, sqrt 2); log m by the series of atanh((m - 1) / (m + 1)). */
float kt_logf(float x)
{
    uint32_t bits = kt_bits(x);
    int k = (int)(bits >> 23) - 127;
    float m = kt_float((bits & 0x7fffffu) | 0x3f800000u);
    if (m > 1.41421356f) {
        m *= 0.5f;
        k += 1;
    }
    const float s = (m - 1.0f) / (m + 1.0f), z = s * s;
    float p = 1.0f / 9.0f;
    p = KT_FMA(1.0f / 7.0f, p, z);
    p = KT_FMA(1.0f / 5.0f, p, z);
    p = KT_FMA(1.0f / 3.0f, p, z);
    const float tail = 2.0f * s * z * p;
    return KT_FMA(KT_FMA(KT_FMA(tail, 2.0f, s), (float)k, -2.12194440e-4f), (float)k, 0.693359375f);
}
