#include "kt_kernels.h"

/* kt_sgd for numbers with the same scale. */
static inline void same_scale(float *restrict value, float *restrict gradient, float *restrict velocity, float rate, int n, kt_rule rule)
{
    if (velocity) {
        for (int i = 0; i < n; i++) {
            const float v = KT_FMA(rule.share * gradient[i], rule.momentum, velocity[i]);
            velocity[i] = v;
            value[i] = KT_FMA(value[i], rate, v);
            gradient[i] = 0.0f;
        }
    } else {
        for (int i = 0; i < n; i++) {
            value[i] = KT_FMA(value[i], rate, rule.share * gradient[i]);
            gradient[i] = 0.0f;
        }
    }
}

/* The same where each number has its own. */
static inline void own_scale(float *restrict value, float *restrict gradient, float *restrict velocity, const float *restrict scale,
                             int n, kt_rule rule)
{
    if (velocity) {
        for (int i = 0; i < n; i++) {
            same_scale(value + i, gradient + i, velocity + i, -(rule.rate * scale[i]), 1, rule);
        }
    } else {
        for (int i = 0; i < n; i++) {
            value[i] = KT_FMA(value[i], -(rule.rate * scale[i]), rule.share * gradient[i]);
            gradient[i] = 0.0f;
        }
    }
}

/* value -= rate * scale * v with v = momentum * v + share * gradient; velocity NULL: v = share * gradient. The gradient becomes 0.
   Elements i * step of scale; scale NULL: 1. */
void kt_sgd(float *value, float *gradient, float *velocity, const float *scale, int n, int step, kt_rule rule)
{
    if (!scale) {
        same_scale(value, gradient, velocity, -rule.rate, n, rule);
    } else if (step == 1) {
        own_scale(value, gradient, velocity, scale, n, rule);
    } else {
        for (int i = 0; i < n; i += step) {
            same_scale(value + i, gradient + i, velocity ? velocity + i : NULL, -(rule.rate * scale[i / step]), step, rule);
        }
    }
}
