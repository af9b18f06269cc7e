#include "kt_kernels.h"

/* dx (n,c) += the chosen outputs of dy (n,o) times delta (count,c). */
void kt_linear_neurons_input_grad(const float *dy, const kt_slice *slice, float *dx, int n, int c, int o)
{
    for (int row = 0; row < n; row++, dx += c, dy += o) {
        for (int k = 0; k < slice->count; k++) {
            const float by = dy[slice->index[k]];
            for (int i = 0; i < c; i++) {
                dx[i] = KT_FMA(dx[i], slice->delta[k * c + i], by);
            }
        }
    }
}
