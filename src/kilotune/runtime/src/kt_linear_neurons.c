#include "kt_kernels.h"

/* The chosen outputs of y (n,o) += x (n,c) delta (count,c)^T. */
void kt_linear_neurons(const float *x, const kt_slice *slice, float *y, int n, int c, int o)
{
    for (int row = 0; row < n; row++, x += c, y += o) {
        for (int k = 0; k < slice->count; k++) {
            float a = y[slice->index[k]];
            for (int i = 0; i < c; i++) {
                a = KT_FMA(a, slice->delta[k * c + i], x[i]);
            }
            y[slice->index[k]] = a;
        }
    }
}
