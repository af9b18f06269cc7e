/* The kernels. What each computes is written above it, in src/; shapes are those of one sample. Gradients of inputs are added to
   what is there if `add`, which the generator writes as a constant. */
#ifndef KT_KERNELS_H
#define KT_KERNELS_H

#include "kt_math.h"
#include "kt_patterns.h"
#include "kt_types.h"

/* Convolutions and linear layers, by how the frozen weight is stored (kt_weights.h); scale (o) is read for int8 only. */
#define KT_DECLARE(suffix, type)                                                                                         \
    void kt_conv2d_##suffix(const kt_conv *g, const float *x, const type *weight, const float *scale, const float *bias, \
        const kt_slice *slice, float *y);                                                                                \
    void kt_conv2d_input_grad_##suffix(const kt_conv *g, const float *dy, const type *weight, const float *scale,        \
        float *dx, int add);                                                                                             \
    void kt_depthwise_##suffix(const kt_conv *g, const float *x, const type *weight, const float *scale,                 \
        const float *bias, const kt_slice *slice, float *y, float *scratch);                                             \
    void kt_depthwise_input_grad_##suffix(const kt_conv *g, const float *dy, const type *weight, const float *scale,     \
        const kt_slice *slice, float *dx, float *scratch, int add);                                                      \
    void kt_linear_##suffix(const float *x, const type *weight, const float *scale, const float *bias, float *y, int n,  \
        int c, int o);                                                                                                   \
    void kt_linear_input_grad_##suffix(const float *dy, const type *weight, const float *scale, float *dx, int n, int c, \
        int o, int add);                                                                                                 \
    void kt_pointwise_##suffix(const kt_conv *g, const float *x, const type *weight, const float *scale,                 \
        const float *bias, const kt_slice *slice, float *y);                                                             \
    void kt_pointwise_input_grad_##suffix(const kt_conv *g, const float *dy, const type *weight, const float *scale,     \
        const kt_slice *slice, float *dx, int add)

KT_DECLARE(f32, float);
KT_DECLARE(f16, uint16_t);
KT_DECLARE(s8, int8_t);

#undef KT_DECLARE

/* The same of kernels with patterns, of which weight and slice hold the taps only. */
#define KT_DECLARE(suffix, type)                                                                                                 \
    void kt_conv2d_taps_##suffix(const kt_conv *g, const float *x, const type *weight, const float *scale,                       \
        const kt_patterns *patterns, const float *bias, const kt_slice *slice, float *y);                                        \
    void kt_conv2d_input_grad_taps_##suffix(const kt_conv *g, const float *dy, const type *weight, const float *scale,           \
        const kt_patterns *patterns, float *dx, int add);                                                                        \
    void kt_depthwise_taps_##suffix(const kt_conv *g, const float *x, const type *weight, const float *scale,                    \
        const kt_patterns *patterns, const float *bias, const kt_slice *slice, float *y, float *scratch);                        \
    void kt_depthwise_input_grad_taps_##suffix(const kt_conv *g, const float *dy, const type *weight, const float *scale,        \
        const kt_patterns *patterns, const kt_slice *slice, float *dx, float *scratch, int add)

KT_DECLARE(f32, float);
KT_DECLARE(f16, uint16_t);
KT_DECLARE(s8, int8_t);

#undef KT_DECLARE

/* Trained slices (kt_types.h): forward, input gradient, weight gradient, update. *_taps: of kernels with patterns. *_neurons: slices of
   output neurons, which read the whole input: index names outputs, delta is (count, c/groups, kh, kw), kept is the input. */
void kt_bias_grad(const float *dy, const float *scale, float *gradient, int o, int n);
void kt_bias_grad_rows(const float *dy, const float *scale, float *gradient, int o, int n);
void kt_conv2d_slice_input_grad(const kt_conv *g, const float *dy, const kt_slice *slice, float *dx);
void kt_conv2d_weight_grad(const kt_conv *g, const kt_slice *slice, const float *dy, const float *scale);
void kt_conv2d_slice_input_grad_taps(const kt_conv *g, const float *dy, const kt_slice *slice, const kt_patterns *patterns, float *dx);
void kt_conv2d_weight_grad_taps(const kt_conv *g, const kt_slice *slice, const kt_patterns *patterns, const float *dy,
    const float *scale);
void kt_keep_channels(const float *x, const kt_slice *slice, int n);
void kt_keep_features(const float *x, const kt_slice *slice, int n, int c);
void kt_linear_slice(const float *x, const kt_slice *slice, float *y, int n, int c, int o);
void kt_linear_slice_input_grad(const float *dy, const kt_slice *slice, float *dx, int n, int c, int o);
void kt_linear_weight_grad(const kt_slice *slice, const float *dy, const float *scale, int n, int o);
void kt_pointwise_slice(const kt_conv *g, const float *x, const float *bias, const kt_slice *slice, float *y);
void kt_pointwise_slice_input_grad(const kt_conv *g, const float *dy, const kt_slice *slice, float *dx, int add);
void kt_pointwise_weight_grad(const kt_conv *g, const kt_slice *slice, const float *dy, const float *scale);
void kt_conv2d_neurons(const kt_conv *g, const float *x, const kt_slice *slice, float *y);
void kt_conv2d_neurons_input_grad(const kt_conv *g, const float *dy, const kt_slice *slice, float *dx);
void kt_conv2d_neurons_weight_grad(const kt_conv *g, const kt_slice *slice, const float *dy, const float *scale);
void kt_conv2d_neurons_taps(const kt_conv *g, const float *x, const kt_slice *slice, const kt_patterns *patterns, float *y);
void kt_conv2d_neurons_input_grad_taps(const kt_conv *g, const float *dy, const kt_slice *slice, const kt_patterns *patterns, float *dx);
void kt_conv2d_neurons_weight_grad_taps(const kt_conv *g, const kt_slice *slice, const kt_patterns *patterns, const float *dy,
    const float *scale);
void kt_linear_neurons(const float *x, const kt_slice *slice, float *y, int n, int c, int o);
void kt_linear_neurons_input_grad(const float *dy, const kt_slice *slice, float *dx, int n, int c, int o);
void kt_linear_neurons_weight_grad(const kt_slice *slice, const float *dy, const float *scale, int n, int c, int o);
void kt_sgd(float *value, float *gradient, float *velocity, const float *scale, int n, int step, kt_rule rule);
void kt_sgd_slice(const kt_slice *slice, const kt_layer *layer, const float *scale, kt_rule rule);

/* Element-wise; input and output may be the same memory. */
void kt_add(const float *a, const float *b, float *y, int n);
void kt_affine(const float *x, float *y, int n, float scale, float shift);
void kt_affine_grad(const float *dy, float *dx, int n, float scale, int add);
void kt_channel_affine(const float *x, const float *scale, const float *shift, float *y, int c, int n);
void kt_channel_affine_grad(const float *dy, const float *scale, float *dx, int c, int n, int add);
void kt_hardsigmoid(const float *x, float *y, int n);
void kt_hardsigmoid_mask(const float *x, float *y, uint8_t *mask, int n);
void kt_hardswish(const float *x, float *y, int n);
void kt_hardswish_grad(const float *dy, const float *kept, float *dx, int n, int add);
void kt_leaky_relu(const float *x, float *y, int n, float slope);
void kt_leaky_relu_mask(const float *x, float *y, uint8_t *mask, int n, float slope);
void kt_mask_grad(const float *dy, const uint8_t *mask, float *dx, int n, int add);
void kt_mul(const float *a, const float *b, float *y, int n_b, int n, int add);
void kt_mul_sum(const float *a, const float *b, float *y, int m, int n, int add);
void kt_relu(const float *x, float *y, int n);
void kt_relu6(const float *x, float *y, int n);
void kt_relu6_mask(const float *x, float *y, uint8_t *mask, int n);
void kt_relu_mask(const float *x, float *y, uint8_t *mask, int n);
void kt_scaled_mask_grad(const float *dy, const uint8_t *mask, float *dx, int n, float on, float off, int add);
void kt_sigmoid(const float *x, float *y, int n);
void kt_sigmoid_grad(const float *dy, const float *kept, float *dx, int n, int add);
void kt_silu(const float *x, float *y, int n);
void kt_silu_grad(const float *dy, const float *kept, float *dx, int n, int add);
void kt_tanh(const float *x, float *y, int n);
void kt_tanh_grad(const float *dy, const float *kept, float *dx, int n, int add);

/* Tokens: attention, norms, axes in another order. rows: where each row of the result comes from. */
void kt_copy_view(const int32_t *view, const float *from, float *to, int add);
void kt_gelu(const float *x, float *y, int n);
void kt_gelu_features(const float *x, const uint16_t *rows, const kt_slice *slice, int n, int c);
void kt_gelu_grad(const float *dy, const float *kept, float *dx, int n, int add);
void kt_gelu_tanh(const float *x, float *y, int n);
void kt_gelu_tanh_features(const float *x, const uint16_t *rows, const kt_slice *slice, int n, int c);
void kt_gelu_tanh_grad(const float *dy, const float *kept, float *dx, int n, int add);
void kt_layer_norm(const float *x, const float *weight, const float *bias, float *y, int m, int n, float epsilon);
void kt_layer_norm_features(const float *x, const uint16_t *rows, const float *weight, const float *bias, const kt_slice *slice, int n,
    int c, float epsilon);
void kt_layer_norm_grad(const float *dy, const float *x, const float *weight, float *dx, int m, int n, float epsilon, int add);
void kt_matmul(const float *a, const float *b, float *y, int times, int m, int k, int n, float scale, int add);
void kt_matmul_at(const float *a, const float *b, float *y, int times, int m, int k, int n, float scale, int add);
void kt_matmul_bt(const float *a, const float *b, float *y, int times, int m, int k, int n, float scale, int add);
void kt_mean_rows(const float *x, float *y, int m, int n, int inner);
void kt_mean_rows_grad(const float *dy, float *dx, int m, int n, int inner, int add);
void kt_softmax(const float *x, float *y, int m, int n, int inner);
void kt_softmax_grad(const float *dy, const float *y, float *dx, int m, int n, int inner, int add);
void kt_take_rows(const float *x, const uint16_t *rows, float *y, int n, int c);

/* Pooling, copies and the loss. */
void kt_adaptive_avg_pool(const kt_pool *g, const float *x, float *y);
void kt_adaptive_avg_pool_grad(const kt_pool *g, const float *dy, float *dx, int add);
void kt_avg_pool(const kt_pool *g, const float *x, float *y, int padded);
void kt_avg_pool_grad(const kt_pool *g, const float *dy, float *dx, int padded, int add);
void kt_copy(const float *from, int from_outer, int from_middle, float *to, int to_outer, int to_middle, int outer, int middle,
    int inner, int add);
float kt_cross_entropy(const float *logits, uint32_t label, float *dlogits, int n);
void kt_max_pool(const kt_pool *g, const float *x, float *y, uint8_t *taps);
void kt_max_pool_grad(const kt_pool *g, const float *dy, const uint8_t *taps, float *dx, int add);
void kt_mean(const float *x, float *y, int m, int n);
void kt_mean_grad(const float *dy, float *dx, int m, int n, int add);
void kt_slice_clear(const kt_slice *slice, const kt_layer *layer);
void kt_zero(float *y, int n);

#endif
