#include "kt_kernels.h"

/* dy where bit b is 1, else 0, without a branch. */
static inline float passed(float dy, unsigned bits, int b) { return kt_float(kt_bits(dy) & (0u - (bits >> b & 1u))); }

/* dx = dy where the bit is 1, else 0; with add: added to dx. */
void kt_mask_grad(const float *dy, const uint8_t *mask, float *dx, int n, int add)
{
    int i = 0;
    for (; i + 16 <= n && !add; i += 16, mask += 2) {
        const unsigned bits = mask[0] | (unsigned)mask[1] << 8;
        for (int b = 0; b < 16; b++) {
            dx[i + b] = passed(dy[i + b], bits, b);
        }
    }
    for (; i < n; i += 8, mask++) {
        const unsigned bits = *mask;
        for (int b = 0; b < 8 && i + b < n; b++) {
            const float d = passed(dy[i + b], bits, b);
            dx[i + b] = add ? dx[i + b] + d : d;
        }
    }
}
