#include "kt_kernels.h"

/* The chosen channels of x (c,n) into slice->kept (count,n). */
void kt_keep_channels(const float *x, const kt_slice *slice, int n)
{
    for (int k = 0; k < slice->count; k++) {
        const float *const from = x + slice->index[k] * n;
        float *const to = slice->kept + k * n;
        for (int p = 0; p < n; p++) {
            to[p] = from[p];
        }
    }
}
