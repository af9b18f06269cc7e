#include "kt_policy.h"

uint16_t kt_shuffle_next(uint16_t *order, uint32_t place, uint32_t n, kt_rng *rng)
{
    const uint32_t other = place + kt_rng_below(rng, n - place);
    const uint16_t taken = order[other];

    order[other] = order[place];
    order[place] = taken;
    return taken;
}
