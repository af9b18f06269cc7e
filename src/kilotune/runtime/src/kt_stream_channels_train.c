#include "kt_kernels.h"
#include "kt_policy.h"
#include "kt_stream.h"

/* Gradients are applied as soon as nobody reads the weight any more. squares: of each trained channel of the head, the sum so far. */
typedef struct {
    float *squares;
    kt_rule rule;
    uint32_t step;
} taker;

static void start(const float *summed, int at, int n, float *gradient)
{
    (void)summed;
    (void)at;
    for (int i = 0; i < n; i++) {
        gradient[i] = 0.0f;
    }
}

/* Numbers at.. of the gradient of channel k; the norm is known when its last number has come. Twin of kt_observe_slice. */
static void observe(const taker *t, const kt_block_trained *trained, const kt_slice *slice, int k, int at, int n, const float *gradient)
{
    const int size = trained->layer->rows * trained->layer->kernel;
    float sum = at ? t->squares[k] : 0.0f;
    for (int i = 0; i < n; i++) {
        const float v = t->rule.share * gradient[i];
        sum = KT_FMA(sum, v, v);
    }
    if (at + n == size) {
        kt_norm_add(&trained->norms[slice->index[k]], kt_sqrtf(sum), t->step);
    } else {
        t->squares[k] = sum;
    }
}

static void take(const taker *t, const kt_block_trained *trained, const kt_slice *slice, int k, int at, int n, float *gradient,
                 const float *scale, int step)
{
    const int place = k * trained->layer->rows * trained->layer->kernel + at;
    if (trained->norms) {
        observe(t, trained, slice, k, at, n, gradient);
    }
    kt_sgd(slice->delta + place, gradient, slice->velocity ? slice->velocity + place : NULL, scale, n, step, t->rule);
}

static void take_bias(const taker *t, const kt_block_trained *trained, int o, float gradient)
{
    const float *const scale = trained->bias_scale ? trained->bias_scale + o : NULL;
    kt_sgd(trained->bias + o, &gradient, trained->bias_velocity ? trained->bias_velocity + o : NULL, scale, 1, 1, t->rule);
}

#include "kt_stream_channels_back.h"

/* The backward pass of a block that is trained on the way. */
void kt_stream_channels_train(const kt_block_shape *g, const float *dy, const kt_block_layer *layers, const kt_block_trained *trained,
                              float *dx, float *scratch, int add, float *squares, kt_rule rule, uint32_t step)
{
    const taker t = {squares, rule, step};
    run(&t, g, dy, layers, trained, dx, scratch, add);
}
