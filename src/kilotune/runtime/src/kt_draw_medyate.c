#include "kt_policy.h"

#define WEIGHT_SCALE 65535.0f
/* Adding 1.5 * 2^23 leaves no fraction bits: a float below 2^22 is rounded to an integer, half to even. */
#define ROUNDING 12582912.0f

/* The largest norm seen, negative if none was. */
static float largest_norm(const float *norms, uint32_t n)
{
    float largest = -1;
    uint32_t channel;

    for (channel = 0; channel < n; channel++) {
        largest = norms[channel] > largest ? norms[channel] : largest;
    }
    return largest;
}

/* A norm as an integer weight from 1 to 65,535. Twin of policies.order.quantised. */
static uint32_t weight_of(float norm, float largest)
{
    volatile float shifted;

    if (largest == 0) {
        return 1;
    }
    shifted = norm / largest * WEIGHT_SCALE + ROUNDING;
    return shifted - ROUNDING < 1 ? 1 : (uint32_t)(shifted - ROUNDING);
}

/* tree: (top) sums of the weights, a Fenwick tree; returns the sum of all. */
static uint32_t plant(uint32_t *tree, uint32_t top, const float *norms, uint32_t n, float largest)
{
    uint32_t place, total = 0;

    for (place = 0; place < top; place++) {
        tree[place] = 0;
    }
    for (place = 0; place < n; place++) {
        tree[place + 1] = weight_of(norms[place], largest);
        total += tree[place + 1];
    }
    for (place = 1; place < top; place++) {
        const uint32_t parent = place + (place & -place);

        if (parent < top) {
            tree[parent] += tree[place];
        }
    }
    return total;
}

/* The first place at which the running sum exceeds rest. */
static uint32_t find(const uint32_t *tree, uint32_t top, uint32_t rest)
{
    uint32_t place = 0, step;

    for (step = top >> 1; step > 0; step >>= 1) {
        if (tree[place + step] <= rest) {
            place += step;
            rest -= tree[place];
        }
    }
    return place;
}

static void draw_weighted(const kt_candidates *among, const float *norms, float largest, kt_rng *rng, uint32_t *bits,
                          uint32_t *tree)
{
    const uint32_t n = among->n_channels;
    uint32_t top = 1, left = among->size, total;

    while (top <= n) {
        top <<= 1;
    }
    total = plant(tree, top, norms, n, largest);
    while (total > 0) {
        const uint32_t channel = find(tree, top, kt_rng_below(rng, total));
        const uint32_t weight = weight_of(norms[channel], largest), cost = kt_channel_cost(among, channel);
        uint32_t node;

        if (cost > left) {
            break;
        }
        left -= cost;
        total -= weight;
        bits[channel / 32] |= 1u << channel % 32;
        for (node = channel + 1; node < top; node += node & -node) {
            tree[node] -= weight;
        }
    }
}

void kt_draw_medyate(const kt_candidates *among, float *norms, kt_rng *rng, const kt_draw *drawn, void *scratch)
{
    const uint32_t n = among->n_channels, n_words = (n + 31) / 32;
    const float largest = largest_norm(norms, n);
    uint32_t *bits = scratch, place;

    if (largest < 0) {
        kt_draw_uniform(among, rng, drawn, scratch);
        return;
    }
    for (place = 0; place < n; place++) {
        norms[place] = norms[place] < 0 ? largest : norms[place];
    }
    for (place = 0; place < n_words; place++) {
        bits[place] = 0;
    }
    draw_weighted(among, norms, largest, rng, bits, bits + n_words);
    kt_draw_from_bits(among, bits, drawn);
}
