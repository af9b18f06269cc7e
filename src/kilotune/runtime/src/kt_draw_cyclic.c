#include "kt_policy.h"

/* A random walk through n channels. */
static void begin(uint16_t *order, uint32_t n, kt_rng *rng)
{
    uint32_t place;

    for (place = 0; place < n; place++) {
        order[place] = (uint16_t)place;
    }
    for (place = 0; place < n; place++) {
        kt_shuffle_next(order, place, n, rng);
    }
}

void kt_draw_cyclic(const kt_candidates *among, const uint16_t *counts, uint16_t *order, uint16_t *cursor, kt_rng *rng,
                    const kt_draw *drawn, void *scratch)
{
    uint32_t *bits = scratch, row, taken, first = 0;

    for (row = 0; row < (among->n_channels + 31u) / 32; row++) {
        bits[row] = 0;
    }
    for (row = 0; row < among->n_rows; first += among->channels[row++]) {
        if (counts[row] > 0 && cursor[row] == KT_NOT_BEGUN) {
            begin(order + first, among->channels[row], rng);
            cursor[row] = 0;
        }
        for (taken = 0; taken < counts[row]; taken++) {
            const uint32_t channel = first + order[first + cursor[row]];

            bits[channel / 32] |= 1u << channel % 32;
            cursor[row] = (uint16_t)((cursor[row] + 1u) % among->channels[row]);
        }
    }
    kt_draw_from_bits(among, bits, drawn);
}
