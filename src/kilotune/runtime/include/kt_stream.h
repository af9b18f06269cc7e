/* Blocks of which the middle channels never exist as a whole: [head,] depthwise convolution, pointwise projection. */
#ifndef KT_STREAM_H
#define KT_STREAM_H

#include "kt_patterns.h"
#include "kt_types.h"

#define KT_LANES 4 /* middle channels in work at once; twin of memory.segments.LANES */

/* tile[d * rows + r] = weight first + r * row + d * depth, for r < rows, d < depths; per_output weights share one scale. */
typedef void (*kt_take)(const void *weight, const float *scale, uint32_t per_output, uint32_t first, int rows, int row, int depths,
                        int depth, float *tile);

void kt_take_f32(const void *weight, const float *scale, uint32_t per_output, uint32_t first, int rows, int row, int depths, int depth,
                 float *tile);
void kt_take_f16(const void *weight, const float *scale, uint32_t per_output, uint32_t first, int rows, int row, int depths, int depth,
                 float *tile);
void kt_take_s8(const void *weight, const float *scale, uint32_t per_output, uint32_t first, int rows, int row, int depths, int depth,
                float *tile);

/* Geometry of a block: head (c,...) -> (mid,h,w), NULL where the source has the middle channels; depthwise convolution; projection. */
typedef struct {
    const kt_conv *head, *depthwise, *projection;
} kt_block_shape;

/* One convolution of a block and the activation function behind it. scale is read for int8 only; patterns: of the depthwise
   convolution, of which weight and slice then hold the taps only, else NULL; slice is NULL where nothing can be trained; mask has one bit per number behind the function, whether it is inside low..high, or is NULL. */
typedef struct {
    kt_take take;
    const void *weight;
    const float *scale;
    const kt_patterns *patterns;
    const float *bias;
    const kt_slice *slice;
    uint8_t *mask;
    float low, high;
} kt_block_layer;

/* What is trained of a convolution whose gradients are never whole. layer: of its slice, NULL where there is none; scale, bias_scale:
   derivatives of the folded by the unfolded numbers, or NULL; norms: of all its channels, NULL where nobody observes them; bias: NULL
   where it is frozen. */
typedef struct {
    const kt_layer *layer;
    const float *scale;
    float *norms;
    float *bias, *bias_gradient, *bias_velocity;
    const float *bias_scale;
} kt_block_trained;

/* layers: head, depthwise convolution, projection; trained: head and depthwise convolution. */
void kt_stream_channels(const kt_block_shape *g, const float *x, const kt_block_layer *layers, float *y, float *scratch);
void kt_stream_channels_grad(const kt_block_shape *g, const float *dy, const kt_block_layer *layers, const kt_block_trained *trained,
                             float *dx, float *scratch, int add);
void kt_stream_channels_train(const kt_block_shape *g, const float *dy, const kt_block_layer *layers, const kt_block_trained *trained,
                              float *dx, float *scratch, int add, float *squares, kt_rule rule, uint32_t step);

/* Whoever makes a value row by row: row `row` of all its channels to y[c * ys + column]. Rows are asked for in order, each once. */
typedef struct kt_maker kt_maker;
struct kt_maker {
    void (*make)(const kt_maker *self, int row, float *y, size_t ys);
};

/* An image of bytes (c,h,w): values[channel * step + byte] is the number that a byte stands for. */
typedef struct {
    kt_maker rows;
    const uint8_t *bytes;
    const float *values;
    uint16_t c, h, w, step;
} kt_byte_rows;

/* A block that pulls rows of its source into a line buffer (c, n_source, w) and makes rows of its output. */
typedef struct {
    kt_maker rows;
    const kt_maker *before;
    const kt_block_shape *g;
    const kt_block_layer *layers;
    float *source, *scratch;
    uint16_t n_source;
} kt_block_rows;

void kt_rows_of_bytes(const kt_maker *self, int row, float *y, size_t ys);
void kt_rows_lines(const kt_maker *self, int row, float *y, size_t ys);
void kt_rows_again(const kt_maker *self, int row, float *y, size_t ys);
void kt_stream_rows(const kt_maker *from, int h, int w, float *y);

#endif
