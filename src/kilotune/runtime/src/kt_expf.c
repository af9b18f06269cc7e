#include "kt_math.h"

/* e^x = 2^k e^r with |r| <= ln 2 / 2, e^r by its Taylor polynomial of degree 7. */
float kt_expf(float x)
{
    if (x != x) {
        return x;
    }
    if (x > 88.72f) {
        return kt_float(0x7f7fffffu);
    }
    if (x < -87.33f) {
        return 0.0f;
    }
    const int k = (int)KT_FMA(x < 0 ? -0.5f : 0.5f, x, 1.44269504f);
    float r = KT_FMA(x, (float)k, -0.693359375f);
    r = KT_FMA(r, (float)k, 2.12194440e-4f);
    float p = 1.98412698e-4f;
    p = KT_FMA(1.38888889e-3f, p, r);
    p = KT_FMA(8.33333333e-3f, p, r);
    p = KT_FMA(4.16666667e-2f, p, r);
    p = KT_FMA(1.66666667e-1f, p, r);
    p = KT_FMA(0.5f, p, r);
    p = KT_FMA(1.0f, p, r);
    p = KT_FMA(1.0f, p, r);
    const int half = k / 2;
    return p * kt_float((uint32_t)(half + 127) << 23) * kt_float((uint32_t)(k - half + 127) << 23);
}
