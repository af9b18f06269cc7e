#include "kt_kernels.h"

/* value -= rate * scale * v with v = momentum * v + share * gradient; velocity NULL: v = share * gradient. The gradient becomes 0.
   Elements i * step of scale; scale NULL: 1. */
void kt_sgd(float *value, float *gradient, float *velocity, const float *scale, int n, int step, kt_rule rule)
{
    for (int i = 0; i < n; i++) {
        float v = rule.share * gradient[i];
        if (velocity) {
            v = KT_FMA(v, rule.momentum, velocity[i]);
            velocity[i] = v;
        }
        value[i] = KT_FMA(value[i], -(scale ? rule.rate * scale[i / step] : rule.rate), v);
        gradient[i] = 0.0f;
    }
}
