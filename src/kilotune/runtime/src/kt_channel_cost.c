#include "kt_policy.h"

uint32_t kt_channel_cost(const kt_candidates *among, uint32_t channel)
{
    uint32_t row = 0;

    while (channel >= among->channels[row]) {
        channel -= among->channels[row++];
    }
    return among->cost[row];
}
