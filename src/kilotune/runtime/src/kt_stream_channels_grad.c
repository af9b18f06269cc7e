#include "kt_types.h"
#include "kt_stream.h"

/* Gradients are added to the sums that stay. */
typedef struct {
    int unused;
} taker;

static void start(const float *summed, int at, int n, float *gradient)
{
    for (int i = 0; i < n; i++) {
        gradient[i] = summed[at + i];
    }
}

static void take(const taker *t, const kt_block_trained *trained, const kt_slice *slice, int k, int at, int n, float *gradient,
                 const float *scale, int step)
{
    float *const summed = slice->gradient + k * trained->layer->rows * trained->layer->kernel + at;
    (void)t;
    (void)scale;
    (void)step;
    start(gradient, 0, n, summed);
}

static void take_bias(const taker *t, const kt_block_trained *trained, int o, float gradient)
{
    (void)t;
    trained->bias_gradient[o] = gradient;
}

#include "kt_stream_channels_back.h"

/* The backward pass of a block whose gradients are summed over samples. */
void kt_stream_channels_grad(const kt_block_shape *g, const float *dy, const kt_block_layer *layers, const kt_block_trained *trained,
                             float *dx, float *scratch, int add)
{
    const taker t = {0};
    run(&t, g, dy, layers, trained, dx, scratch, add);
}
