#include "kt_math.h"

/* Digit by digit on the bits: the same result on every processor, no instruction needed. */
float kt_sqrtf(float x)
{
    const uint32_t bits = kt_bits(x);
    if (!(x > 0.0f) || bits >= 0x7f800000u) {
        return x;
    }
    int exponent = (int)(bits >> 23);
    uint32_t mantissa = bits & 0x7fffffu;
    if (exponent == 0) {
        for (exponent = 1; !(mantissa & 0x800000u); exponent--) {
            mantissa <<= 1;
        }
    }
    mantissa |= 0x800000u;
    exponent -= 127;
    if (exponent & 1) {
        mantissa <<= 1;
        exponent -= 1;
    }
    uint32_t root = 0, rest = mantissa << 1, sum = 0;
    for (uint32_t digit = 0x1000000u; digit; digit >>= 1) {
        const uint32_t trial = sum + digit;
        if (trial <= rest) {
            sum = trial + digit;
            rest -= trial;
            root += digit;
        }
        rest <<= 1;
    }
    root += rest ? root & 1u : 0u;
    return kt_float((root >> 1) + ((uint32_t)(exponent / 2 + 126) << 23));
}
