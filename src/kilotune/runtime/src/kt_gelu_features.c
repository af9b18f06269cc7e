#include "kt_gelu.h"
#include "kt_kernels.h"

/* The chosen features of GELU of x (n,c) into slice->kept (n,count), row i from row rows[i] of x. */
void kt_gelu_features(const float *x, const uint16_t *rows, const kt_slice *slice, int n, int c)
{
    for (int row = 0; row < n; row++) {
        for (int k = 0; k < slice->count; k++) {
            slice->kept[row * slice->count + k] = kt_gelu_of(x[rows[row] * c + slice->index[k]]);
        }
    }
}
