#include "kt_few_bits.h"

#define LARGEST 127

/* Of every trained channel: its scale, then a byte per element. */
void kt_keep_int8(const float *x, const kt_slice *slice, int n, int channel, int step, uint64_t seed)
{
    kt_rng rng;
    kt_rng_seed(&rng, seed);
    for (int k = 0; k < slice->count; k++) {
        const float *const from = x + slice->index[k] * channel;
        float *const record = kt_record(slice, k, n, 8);
        int8_t *const whole = (int8_t *)(record + 1);
        const float scale = kt_step_of(from, n, step, LARGEST);
        *record = scale;
        for (int p = 0; p < n; p++) {
            whole[p] = (int8_t)kt_round_at_random(from[p * step], scale > 0.0f ? scale : 1.0f, LARGEST, &rng);
        }
    }
}
