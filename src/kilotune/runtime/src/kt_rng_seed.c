#include "kt_policy.h"

void kt_rng_seed(kt_rng *rng, uint64_t seed)
{
    rng->state = 0;
    rng->increment = 1;
    kt_rng_next(rng);
    rng->state += seed;
    kt_rng_next(rng);
}
