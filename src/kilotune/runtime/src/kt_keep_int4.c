#include "kt_few_bits.h"

#define LARGEST 7

/* Of every trained channel: its scale, then two elements per byte, the first one in the lower half. */
void kt_keep_int4(const float *x, const kt_slice *slice, int n, int channel, int step, uint64_t seed)
{
    kt_rng rng;
    kt_rng_seed(&rng, seed);
    for (int k = 0; k < slice->count; k++) {
        const float *const from = x + slice->index[k] * channel;
        float *const record = kt_record(slice, k, n, 4);
        uint8_t *const pairs = (uint8_t *)(record + 1);
        const float scale = kt_step_of(from, n, step, LARGEST);
        *record = scale;
        for (int p = 0; p < n; p++) {
            const int whole = kt_round_at_random(from[p * step], scale > 0.0f ? scale : 1.0f, LARGEST, &rng) & 15;
            pairs[p / 2] = (uint8_t)(p % 2 ? pairs[p / 2] | whole << 4 : whole);
        }
    }
}
