/* Where the trained slices of a draw lie. */
#ifndef KT_PLAN_H
#define KT_PLAN_H

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

#endif
