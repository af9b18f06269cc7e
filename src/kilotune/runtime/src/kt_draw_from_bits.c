#include "kt_policy.h"

void kt_draw_from_bits(const kt_candidates *among, const uint32_t *bits, const kt_draw *drawn)
{
    uint16_t *next = drawn->index;
    uint32_t row, channel, number = 0;

    for (row = 0; row < among->n_rows; row++) {
        uint16_t *first = next;

        for (channel = 0; channel < among->channels[row]; channel++, number++) {
            if (bits[number / 32] >> number % 32 & 1u) {
                *next++ = (uint16_t)channel;
            }
        }
        drawn->count[row] = (uint16_t)(next - first);
    }
}
