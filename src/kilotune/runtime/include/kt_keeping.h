/* Inputs of trained layers that are kept compressed from forward to backward, and made again there, a few channels at a time. What is
   kept of a channel lies in slice->kept as one record of kt_layer.channel_inputs elements behind the other.
   n: elements of a channel; in x the next channel is `channel`, the next element `step` further on. */
#ifndef KT_KEEPING_H
#define KT_KEEPING_H

#include "kt_types.h"

/* 8 or 4 bits per element: the scale of the channel, then whole numbers, rounded up or down at random. seed: of the rounding of this
   layer's input at this step. */
void kt_keep_int8(const float *x, const kt_slice *slice, int n, int channel, int step, uint64_t seed);
void kt_keep_int4(const float *x, const kt_slice *slice, int n, int channel, int step, uint64_t seed);

/* Channels k and on of a slice, n elements each, as they are found in some->kept, which has room for some->count of them. */
void kt_restore_int8(const kt_slice *slice, int k, const kt_slice *some, int n);
void kt_restore_int4(const kt_slice *slice, int k, const kt_slice *some, int n);

/* Up to `most` channels of a slice from place k on; their input, n elements each, is to be made again right below `top`. */
static inline kt_slice kt_some(const kt_slice *of, const kt_layer *layer, int k, int most, float *top, int n)
{
    const uint32_t weights = (uint32_t)k * layer->rows * layer->kernel;
    const int room = of->count < most ? of->count : most, left = of->count - k;
    const kt_slice some = {of->index + k, of->delta + weights, of->gradient + weights, of->velocity ? of->velocity + weights : NULL,
                           top - room * n, (uint16_t)(left < most ? left : most)};
    return some;
}

#endif
