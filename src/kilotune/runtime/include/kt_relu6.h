/* min(max(x, 0), 6) on the bits: positive floats are in the order of their bits, negative ones have the sign bit. */
#ifndef KT_RELU6_H
#define KT_RELU6_H

#include "kt_math.h"

#define KT_SIX 0x40c00000

static inline float kt_relu6_of(float x)
{
    const int32_t bits = (int32_t)kt_bits(x), positive = bits > 0 ? bits : 0;
    return kt_float((uint32_t)(positive < KT_SIX ? positive : KT_SIX));
}

#endif
