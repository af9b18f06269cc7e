#include "kt_kernels.h"

/* kt_sgd on the deltas of a slice, channel by channel; scale (o) of the whole layer, or NULL. */
void kt_sgd_slice(const kt_slice *slice, const kt_layer *layer, const float *scale, kt_rule rule)
{
    const int size = layer->rows * layer->kernel, per_group = layer->channels / layer->groups;
    for (int k = 0; k < slice->count; k++) {
        const float *const rows = scale ? scale + slice->index[k] / per_group * layer->rows : NULL;
        kt_sgd(slice->delta + k * size, slice->gradient + k * size, slice->velocity ? slice->velocity + k * size : NULL, rows,
               size, layer->kernel, rule);
    }
}
