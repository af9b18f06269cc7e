#include "kt_policy.h"

void kt_draw_uniform(const kt_candidates *among, kt_rng *rng, const kt_draw *drawn, void *scratch)
{
    const uint32_t n = among->n_channels;
    uint32_t *bits = scratch, left = among->size, place;
    uint16_t *order = (uint16_t *)(bits + (n + 31) / 32);

    for (place = 0; place < (n + 31) / 32; place++) {
        bits[place] = 0;
    }
    for (place = 0; place < n; place++) {
        order[place] = (uint16_t)place;
    }
    for (place = 0; place < n; place++) {
        const uint32_t channel = kt_shuffle_next(order, place, n, rng);
        const uint32_t cost = kt_channel_cost(among, channel);

        if (cost > left) {
            break;
        }
        left -= cost;
        bits[channel / 32] |= 1u << channel % 32;
    }
    kt_draw_from_bits(among, bits, drawn);
}
