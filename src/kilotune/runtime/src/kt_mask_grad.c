#include "kt_kernels.h"

/* dx = dy where the bit is 1, else 0; with add: added to dx. */
void kt_mask_grad(const float *dy, const uint8_t *mask, float *dx, int n, int add)
{
    for (int i = 0; i < n; i += 8, mask++) {
        const int bits = n - i < 8 ? n - i : 8;
        for (int b = 0; b < bits; b++) {
            const float d = *mask >> b & 1 ? dy[i + b] : 0.0f;
            dx[i + b] = add ? dx[i + b] + d : d;
        }
    }
}
