#include "kt_kernels.h"

/* The chosen features of dx (n,c) += dy (n,o) delta (count,o)^T. */
void kt_linear_slice_input_grad(const float *dy, const kt_slice *slice, float *dx, int n, int c, int o)
{
    for (int row = 0; row < n; row++, dx += c, dy += o) {
        for (int k = 0; k < slice->count; k++) {
            float a = dx[slice->index[k]];
            for (int j = 0; j < o; j++) {
                a = KT_FMA(a, slice->delta[k * o + j], dy[j]);
            }
            dx[slice->index[k]] = a;
        }
    }
}
