#include "kt_policy.h"

uint32_t kt_rng_below(kt_rng *rng, uint32_t bound)
{
    const uint32_t threshold = -bound % bound;
    uint32_t word;

    do {
        word = kt_rng_next(rng);
    } while (word < threshold);
    return word % bound;
}
