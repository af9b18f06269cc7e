#include "kt_kernels.h"

/* gradient (count,c) += scale (o) * the chosen outputs of dy (n,o), transposed, times kept (n,c); scale NULL: 1. */
void kt_linear_neurons_weight_grad(const kt_slice *slice, const float *dy, const float *scale, int n, int c, int o)
{
    const float *kept = slice->kept;
    for (int row = 0; row < n; row++, dy += o, kept += c) {
        for (int k = 0; k < slice->count; k++) {
            const int j = slice->index[k];
            const float by = scale ? scale[j] * dy[j] : dy[j];
            float *const gradient = slice->gradient + k * c;
            for (int i = 0; i < c; i++) {
                gradient[i] = KT_FMA(gradient[i], by, kept[i]);
            }
        }
    }
}
