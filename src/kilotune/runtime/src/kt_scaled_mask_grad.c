#include "kt_kernels.h"

/* dx = dy times on where the bit is 1, off where it is 0; with add: added to dx. */
void kt_scaled_mask_grad(const float *dy, const uint8_t *mask, float *dx, int n, float on, float off, int add)
{
    for (int i = 0; i < n; i++) {
        const float d = dy[i] * (mask[i >> 3] >> (i & 7) & 1 ? on : off);
        dx[i] = add ? dx[i] + d : d;
    }
}
