#include "kt_math.h"
#include "kt_plan.h"
#include "kt_policy.h"

void kt_observe_slice(const kt_slice *slice, const kt_layer *layer, float share, float *norms, uint32_t step)
{
    const uint32_t size = (uint32_t)layer->rows * layer->kernel;

    for (uint32_t k = 0; k < slice->count; k++) {
        float sum = 0;

        for (uint32_t i = 0; i < size; i++) {
            const float g = share * slice->gradient[k * size + i];
            sum = KT_FMA(sum, g, g);
        }
        kt_norm_add(&norms[slice->index[k]], kt_sqrtf(sum), step);
    }
}
