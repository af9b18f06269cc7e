/* The statistics of a row that is normalised. Sums run in four lanes, element p in lane p % 4, added as (0 + 1) + (2 + 3). */
#ifndef KT_NORM_H
#define KT_NORM_H

#include "kt_math.h"

typedef struct {
    float mean, inverse; /* inverse: 1 / sqrt(variance + epsilon) */
} kt_row_norm;

static inline kt_row_norm kt_row_norm_of(const float *x, int n, float epsilon)
{
    float s[4] = {0, 0, 0, 0}, q[4] = {0, 0, 0, 0};
    for (int i = 0; i < n; i++) {
        s[i & 3] += x[i];
    }
    const float mean = ((s[0] + s[1]) + (s[2] + s[3])) / (float)n;
    for (int i = 0; i < n; i++) {
        const float d = x[i] - mean;
        q[i & 3] = KT_FMA(q[i & 3], d, d);
    }
    const float variance = ((q[0] + q[1]) + (q[2] + q[3])) / (float)n;
    const kt_row_norm norm = {mean, 1.0f / kt_sqrtf(variance + epsilon)};
    return norm;
}

#endif
