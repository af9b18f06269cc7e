#include "kt_kernels.h"
#include "kt_relu6.h"

/* y = min(max(x, 0), 6), and one bit per element, lowest first: whether 0 < y < 6. y may be x. */
void kt_relu6_mask(const float *x, float *y, uint8_t *mask, int n)
{
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        uint32_t byte = 0;
        for (int b = 0; b < 8; b++) {
            const float u = kt_relu6_of(x[i + b]);
            byte |= (uint32_t)(kt_bits(u) - 1u < KT_SIX - 1u) << b;
            y[i + b] = u;
        }
        *mask++ = (uint8_t)byte;
    }
    for (int b = 0; i < n; i++, b++) {
        const float u = kt_relu6_of(x[i]);
        *mask = (uint8_t)((b ? *mask : 0u) | (uint32_t)(kt_bits(u) - 1u < KT_SIX - 1u) << b);
        y[i] = u;
    }
}
