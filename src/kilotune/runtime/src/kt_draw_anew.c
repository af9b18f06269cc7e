#include "kt_policy.h"

void kt_draw_anew(const kt_candidates *among, const uint16_t *counts, kt_rng *rng, const kt_draw *drawn, void *scratch)
{
    const uint32_t n_words = (among->n_channels + 31u) / 32;
    uint32_t *bits = scratch, row, place, first = 0;
    uint16_t *order = (uint16_t *)(bits + n_words);

    for (row = 0; row < n_words; row++) {
        bits[row] = 0;
    }
    for (row = 0; row < among->n_rows; first += among->channels[row++]) {
        for (place = 0; place < among->channels[row]; place++) {
            order[place] = (uint16_t)place;
        }
        for (place = 0; place < counts[row]; place++) {
            const uint32_t channel = first + kt_shuffle_next(order, place, among->channels[row], rng);

            bits[channel / 32] |= 1u << channel % 32;
        }
    }
    kt_draw_from_bits(among, bits, drawn);
}
