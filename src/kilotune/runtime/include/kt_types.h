/* What kernels and generated tables talk about. One sample at a time, c h w, float32. */
#ifndef KT_TYPES_H
#define KT_TYPES_H

#include <stddef.h>
#include <stdint.h>

/* Return codes of the functions a user calls. */
enum {
    KT_OK = 0,
    KT_BAD_LABEL = -1,     /* the label is not below KT_CLASSES */
    KT_NO_STORE = -2,      /* the weight store cannot be read or written */
    KT_CORRUPT_STORE = -3, /* neither journal copy of the store is intact */
    KT_BAD_DRAW = -4       /* a draw exceeds what the memory was laid out for */
};

/* Of memory that vectors are read from: where a line of the cache begins, so that aligned ones touch one line. */
#if defined(__SSE__) || defined(__aarch64__)
#define KT_AT_A_LINE __attribute__((aligned(64)))
#else
#define KT_AT_A_LINE
#endif

#define KT_MAX_KERNEL 11 /* taps of a convolution in one direction */

/* Geometry of a convolution (c,h,w) -> (o,oh,ow), weight (o, c/groups, kh, kw), zeros around the input. */
typedef struct {
    uint16_t c, h, w, o, oh, ow, groups;
    uint8_t kh, kw, sh, sw, dh, dw, top, left;
} kt_conv;

/* Geometry of a pooling window over (c,h,w) -> (c,oh,ow). */
typedef struct {
    uint16_t c, h, w, oh, ow;
    uint8_t kh, kw, sh, sw, dh, dw, top, left;
} kt_pool;

/* A layer that draws may train, the same for all draws; its slices are channel-major: (k, rows, kernel). */
typedef struct {
    uint32_t weight;         /* where its weight (o, c/groups, kh, kw) starts in the store, elements */
    uint32_t channel_inputs; /* elements kept of one input channel, h * w where it is kept as it is */
    uint16_t channels;       /* input channels, c */
    uint16_t rows;           /* output channels that read one input channel, o / groups */
    uint16_t kernel;         /* kh * kw */
    uint16_t groups;
    uint16_t again;          /* 1: its input is made again in the backward pass, and is kept then only */
} kt_layer;

/* The input channels of a layer that are trained under the present draw; count 0: none of them. */
typedef struct {
    const uint16_t *index; /* (count) increasing */
    float *delta;          /* (count, rows, kernel) what is added to the stored weight */
    float *gradient;       /* same shape; summed over samples, or the one of this step */
    float *velocity;       /* same shape; of momentum, else NULL */
    float *kept;           /* (count, h, w) the input channels, from forward to backward, or what is kept of them */
    uint16_t count;
} kt_slice;

/* The first trained channel from `channel` on, by its place; slice may be NULL. */
static inline int kt_first_trained(const kt_slice *slice, int channel)
{
    int low = 0, high = slice ? slice->count : 0;
    while (low < high) {
        const int middle = (low + high) / 2;
        if (slice->index[middle] < channel) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

/* One optimiser step: share is 1 / samples summed in the gradient. */
typedef struct {
    float rate, momentum, share;
} kt_rule;

/* Where everything of a draw lies. The arena is fixed buffers from the bottom; from the top down: what stays of the slices,
   then the stack of kept channels in forward order. */
typedef struct {
    uint8_t *top;        /* first byte above both */
    uint8_t copies;      /* numbers that stay per trained weight: delta, and summed gradient, and velocity */
    uint8_t accumulate;  /* whether the gradient is one of them */
} kt_region;

#endif
