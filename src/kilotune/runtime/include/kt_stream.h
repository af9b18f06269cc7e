/* Blocks of which the middle channels never exist as a whole: [head,] depthwise convolution, projection. */
#ifndef KT_STREAM_H
#define KT_STREAM_H

#include "kt_types.h"

#define KT_LANES 4 /* middle channels in work at once; twin of memory.segments.LANES */

/* Geometry of a block: pointwise head (c,h,w) -> (mid,h,w), depthwise convolution, pointwise projection. */
typedef struct {
    kt_conv head, depthwise, projection;
    float high; /* both activation functions clamp to 0..high */
} kt_block_shape;

/* One convolution of a block; scale is read for int8 only, slice is NULL where nothing can be trained. */
typedef struct {
    const void *weight;
    const float *scale, *bias;
    const kt_slice *slice;
} kt_block_layer;

/* Head, depthwise convolution, projection. */
#define KT_DECLARE_STREAM(suffix)                                                                                            \
    void kt_stream_channels_##suffix(const kt_block_shape *g, const float *x, const kt_block_layer *layers, uint8_t *const *masks, \
        float *y, float *scratch)

KT_DECLARE_STREAM(f32);
KT_DECLARE_STREAM(f16);
KT_DECLARE_STREAM(s8);

#undef KT_DECLARE_STREAM

#endif
