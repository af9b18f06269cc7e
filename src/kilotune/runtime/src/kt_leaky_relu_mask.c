#include "kt_kernels.h"

/* kt_leaky_relu, and one bit per element, lowest first: whether x > 0. */
void kt_leaky_relu_mask(const float *x, float *y, uint8_t *mask, int n, float slope)
{
    for (int i = 0; i < n; i += 8, mask++) {
        const int bits = n - i < 8 ? n - i : 8;
        unsigned byte = 0;
        for (int b = 0; b < bits; b++) {
            byte |= (unsigned)(x[i + b] > 0.0f) << b;
            y[i + b] = x[i + b] > 0.0f ? x[i + b] : slope * x[i + b];
        }
        *mask = (uint8_t)byte;
    }
}
