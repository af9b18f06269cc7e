#include "kt_kernels.h"

/* gradient (count,o) += scale (o) * kept (n,count)^T dy (n,o); scale NULL: 1. */
void kt_linear_weight_grad(const kt_slice *slice, const float *dy, const float *scale, int n, int o)
{
    const float *kept = slice->kept;
    for (int row = 0; row < n; row++, dy += o, kept += slice->count) {
        for (int k = 0; k < slice->count; k++) {
            float *const gradient = slice->gradient + k * o;
            for (int j = 0; j < o; j++) {
                gradient[j] = KT_FMA(gradient[j], kept[k], scale ? scale[j] * dy[j] : dy[j]);
            }
        }
    }
}
