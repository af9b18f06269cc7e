#include "kt_policy.h"

void kt_norms_mean(const kt_candidates *among, const kt_draw *drawn, uint32_t n_steps, float *norms)
{
    const uint16_t *index = drawn->index;
    uint32_t row, taken;

    if (n_steps == 0) {
        return;
    }
    for (row = 0; row < among->n_rows; norms += among->channels[row++]) {
        for (taken = 0; taken < drawn->count[row]; taken++) {
            norms[*index++] /= (float)n_steps;
        }
    }
}
