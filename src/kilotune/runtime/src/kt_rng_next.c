#include "kt_policy.h"

#define MULTIPLIER 6364136223846793005ull

uint32_t kt_rng_next(kt_rng *rng)
{
    const uint64_t old = rng->state;
    const uint32_t word = (uint32_t)((old >> 18 ^ old) >> 27);
    const uint32_t turn = (uint32_t)(old >> 59);

    rng->state = old * MULTIPLIER + rng->increment;
    return word >> turn | word << (-turn & 31u);
}
