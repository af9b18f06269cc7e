#include "kt_policy.h"

/* A random walk through the channels of each row that is trained. */
static void begin(const kt_candidates *among, const uint16_t *counts, uint16_t *order, uint16_t *cursor, kt_rng *rng)
{
    uint32_t row, place;

    for (row = 0; row < among->n_rows; order += among->channels[row++]) {
        cursor[row] = 0;
        for (place = 0; place < among->channels[row]; place++) {
            order[place] = (uint16_t)place;
        }
        for (place = 0; counts[row] > 0 && place < among->channels[row]; place++) {
            kt_shuffle_next(order, place, among->channels[row], rng);
        }
    }
}

void kt_draw_cyclic(const kt_candidates *among, const uint16_t *counts, uint16_t *order, uint16_t *cursor, kt_rng *rng,
                    const kt_draw *drawn, void *scratch)
{
    uint32_t *bits = scratch, row, taken, first = 0;

    if (cursor[0] == KT_NOT_BEGUN) {
        begin(among, counts, order, cursor, rng);
    }
    for (row = 0; row < (among->n_channels + 31u) / 32; row++) {
        bits[row] = 0;
    }
    for (row = 0; row < among->n_rows; first += among->channels[row++]) {
        for (taken = 0; taken < counts[row]; taken++) {
            const uint32_t channel = first + order[first + cursor[row]];

            bits[channel / 32] |= 1u << channel % 32;
            cursor[row] = (uint16_t)((cursor[row] + 1u) % among->channels[row]);
        }
    }
    kt_draw_from_bits(among, bits, drawn);
}
