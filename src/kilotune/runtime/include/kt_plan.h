/* Where the trained slices of a draw lie. */
#ifndef KT_PLAN_H
#define KT_PLAN_H

#include "kt_store.h"
#include "kt_types.h"

/* Lay out the slices of a draw: count and index of every slice are given, the pointers are filled in.
   slices, layers: (n_layers) in forward order. Returns the first byte of the deepest point of the stack, so that the caller
   can compare it with the fixed buffers. Twin of codegen.region.place. */
uint8_t *kt_place(kt_slice *slices, const kt_layer *layers, size_t n_layers, const kt_region *region);

/* Where element (channel k, row r, tap t) of a slice lies in the whole weight (o, c/groups, kh, kw), elements. */
static inline uint32_t kt_weight_index(const kt_layer *layer, uint32_t channel, uint32_t row, uint32_t tap)
{
    const uint32_t per_group = layer->channels / layer->groups;
    const uint32_t output = channel / per_group * layer->rows + row;
    return (output * per_group + channel % per_group) * layer->kernel + tap;
}

/* Channel k of a slice alone, its gradient elsewhere. */
static inline kt_slice kt_channel(const kt_slice *of, const kt_layer *layer, int k, float *gradient)
{
    const uint32_t weights = (uint32_t)k * layer->rows * layer->kernel;
    const kt_slice one = {of->index + k, of->delta + weights, gradient, of->velocity ? of->velocity + weights : NULL,
                          of->kept + (uint32_t)k * layer->channel_inputs, 1};
    return one;
}

/* Append a whole weight to a commit: as it was committed, plus the deltas of the slice. */
int kt_store_append_slice(kt_store *store, const float *committed, const kt_layer *layer, const kt_slice *slice);

/* The norm of each trained channel's gradient, added to what its earlier steps since the draw had; see kt_norm_add.
   norms: (channels) of the layer. share: 1 / samples summed in the gradient. */
void kt_observe_slice(const kt_slice *slice, const kt_layer *layer, float share, float *norms, uint32_t step);

#endif
