#include "kt_kernels.h"
#include "kt_vec.h"

/* dy where the bit is 1, else 0, without a branch. */
static inline float passed(float dy, unsigned bit) { return kt_float(kt_bits(dy) & (0u - bit)); }

#if KT_VECTORS
/* Numbers in blocks that become vectors; how many of them. Each byte of eight has one bit of the mask left, the lowest first. */
static int blocks(const float *dy, const uint8_t *mask, float *dx, int n)
{
    int i = 0;
    for (; i + 64 <= n; i += 64, mask += 8) {
        uint8_t bits[64];
        for (int byte = 0; byte < 8; byte++) {
            const uint64_t spread = mask[byte] * 0x0101010101010101u & 0x8040201008040201u;
            memcpy(bits + 8 * byte, &spread, sizeof spread);
        }
        for (int b = 0; b < 64; b++) {
            dx[i + b] = passed(dy[i + b], bits[b] != 0);
        }
    }
    return i;
}
#else
static int blocks(const float *dy, const uint8_t *mask, float *dx, int n)
{
    int i = 0;
    for (; i + 8 <= n; i += 8, mask++) {
        const unsigned byte = *mask;
        for (int b = 0; b < 8; b++) {
            dx[i + b] = passed(dy[i + b], byte >> b & 1u);
        }
    }
    return i;
}
#endif

/* dx = dy where the bit is 1, else 0; with add: added to dx. */
void kt_mask_grad(const float *dy, const uint8_t *mask, float *dx, int n, int add)
{
    for (int i = add ? 0 : blocks(dy, mask, dx, n); i < n; i++) {
        const float d = passed(dy[i], mask[i >> 3] >> (i & 7) & 1u);
        dx[i] = add ? dx[i] + d : d;
    }
}
