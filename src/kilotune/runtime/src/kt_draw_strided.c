#include "kt_policy.h"

static uint32_t common_divisor(uint32_t a, uint32_t b)
{
    while (b > 0) {
        const uint32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* The first of 1 .. n in a uniform order that has no divisor in common with n. */
static uint16_t prime_to(uint32_t n, uint16_t *order, kt_rng *rng)
{
    uint32_t place;
    uint16_t found = 0;

    for (place = 0; place < n; place++) {
        order[place] = (uint16_t)(place + 1u);
    }
    for (place = 0; place < n && (place == 0 || common_divisor(found, n) != 1); place++) {
        found = kt_shuffle_next(order, place, n, rng);
    }
    return found;
}

void kt_draw_strided(const kt_candidates *among, const uint16_t *counts, uint16_t *stride, uint16_t *cursor, kt_rng *rng,
                     const kt_draw *drawn, void *scratch)
{
    const uint32_t n_words = (among->n_channels + 31u) / 32;
    uint32_t *bits = scratch, row, taken, first = 0;
    uint16_t *order = (uint16_t *)(bits + n_words);

    for (row = 0; row < n_words; row++) {
        bits[row] = 0;
    }
    for (row = 0; row < among->n_rows; first += among->channels[row++]) {
        const uint32_t n = among->channels[row];

        if (counts[row] > 0 && cursor[row] == KT_NOT_BEGUN) {
            stride[row] = prime_to(n, order, rng);
            cursor[row] = 0;
        }
        for (taken = 0; taken < counts[row]; taken++) {
            const uint32_t channel = first + (uint32_t)cursor[row] * stride[row] % n;

            bits[channel / 32] |= 1u << channel % 32;
            cursor[row] = (uint16_t)((cursor[row] + 1u) % n);
        }
    }
    kt_draw_from_bits(among, bits, drawn);
}
