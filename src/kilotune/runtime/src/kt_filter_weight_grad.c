#include "kt_keeping.h"
#include "kt_kernels.h"

/* gradient (count, o/groups, kh, kw) += scale (o) * means (o,ph,pw) times sums (count,ph,pw), the same at every tap; scale NULL: 1. */
void kt_filter_weight_grad(const kt_conv *g, const kt_conv *coarse, const kt_slice *slice, const float *means, const float *scale,
                           float *scratch)
{
    const int outputs = g->o / g->groups, taps = g->kh * g->kw;
    float *gradient = slice->gradient;
    if (g->groups == 1 && taps == 1) {
        kt_pointwise_weight_grad(coarse, slice, means, scale);
        return;
    }
    for (int k = 0; k < slice->count; k++) {
        const kt_slice one = {slice->index + k, NULL, scratch, NULL, slice->kept + k * coarse->h * coarse->w, 1};
        kt_zero(scratch, outputs);
        if (g->groups == 1) {
            kt_pointwise_weight_grad(coarse, &one, means, scale);
        } else {
            kt_conv2d_weight_grad(coarse, &one, means, scale);
        }
        for (int o = 0; o < outputs; o++) {
            for (int tap = 0; tap < taps; tap++) {
                *gradient++ += scratch[o];
            }
        }
    }
}
