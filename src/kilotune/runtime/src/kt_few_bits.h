/* Whole numbers of few bits that stand for a channel: how they are rounded, and where they lie behind their scale. */
#ifndef KT_FEW_BITS_H
#define KT_FEW_BITS_H

#include "kt_keeping.h"
#include "kt_policy.h"

/* What one step of whole numbers from -largest to largest stands for. */
static inline float kt_step_of(const float *x, int n, int step, int largest)
{
    float most = 0.0f;
    for (int p = 0; p < n; p++) {
        const float size = x[p * step] < 0.0f ? -x[p * step] : x[p * step];
        most = size > most ? size : most;
    }
    return most / (float)largest;
}

/* x / scale rounded down or up so that the mean is x / scale: the floor of x / scale + u, u uniform on [0, 1). */
static inline int kt_round_at_random(float x, float scale, int largest, kt_rng *rng)
{
    const float u = (float)(kt_rng_next(rng) >> 8) * (1.0f / 16777216.0f);
    const float at = u + x / scale;
    if (!(at >= (float)-largest)) {
        return -largest;
    }
    const int cut = at > (float)largest ? largest : (int)at;
    return cut - ((float)cut > at);
}

/* The record of channel k. */
static inline float *kt_record(const kt_slice *slice, int k, int n, int bits)
{
    return slice->kept + (size_t)k * (size_t)(1 + (n * bits + 31) / 32);
}

#endif
