#include "kt_math.h"

/* The product is exact in double; the sum is rounded to odd, so that rounding it to float is rounding once (Boldo and
   Melquiond 2008). */
float kt_fmaf(float a, float b, float c)
{
    const double product = (double)a * b, addend = c;
    union { double f; uint64_t u; } sum;
    sum.f = product + addend;
    const double there = sum.f - product;
    const double error = (product - (sum.f - there)) + (addend - there);
    if (error != 0.0 && !(sum.u & 1u)) {
        sum.u = (error > 0.0) == (sum.f > 0.0) ? sum.u + 1 : sum.u - 1;
    }
    return (float)sum.f;
}
