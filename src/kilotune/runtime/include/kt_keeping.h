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

/* The `values` largest elements of a channel on average, those of all channels together, in their order; before all of them a bit per
   element. Of equally large ones the first. */
void kt_keep_prune(const float *x, const kt_slice *slice, int n, int channel, int step, int values);
void kt_restore_prune(const kt_slice *slice, int k, const kt_slice *some, int n);

/* Of every cell of 2 x 2 positions the `taps` ones, the same ones all over a channel, that hold most of its energy; before them the
   number of that pattern. */
void kt_keep_pattern(const float *x, const kt_slice *slice, int h, int w, int taps);
void kt_restore_pattern(const kt_slice *slice, int k, const kt_slice *some, int h, int w, int taps);

/* Gradient filtering: sums over patches of the input that belong to `patch` x `patch` outputs, (count,ph,pw); both gradients are as of
   a convolution of one tap between the maps of patches, whose geometry is `coarse`. means (o,ph,pw): of the gradient. scratch of the
   weight gradient (o / groups), of the input gradient (ph,pw). */
void kt_keep_filter(const kt_conv *g, const kt_conv *coarse, const float *x, const kt_slice *slice, int patch);
void kt_patch_means(const kt_conv *g, const kt_conv *coarse, const float *dy, int patch, float *means);
void kt_filter_weight_grad(const kt_conv *g, const kt_conv *coarse, const kt_slice *slice, const float *means, const float *scale,
    float *scratch);
#define KT_DECLARE(suffix, type)                                                                                              \
    void kt_filter_input_grad_##suffix(const kt_conv *g, const kt_conv *coarse, const float *means, const type *weight,       \
        const float *scale, const kt_slice *slice, int patch, float *dx, float *scratch, int add)
KT_DECLARE(f32, float);
KT_DECLARE(f16, uint16_t);
KT_DECLARE(s8, int8_t);
#undef KT_DECLARE

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
