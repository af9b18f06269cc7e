#include "kt_kernels.h"

/* The chosen features of x (n,c) into slice->kept (n,count). */
void kt_keep_features(const float *x, const kt_slice *slice, int n, int c)
{
    for (int row = 0; row < n; row++) {
        for (int k = 0; k < slice->count; k++) {
            slice->kept[row * slice->count + k] = x[row * c + slice->index[k]];
        }
    }
}
