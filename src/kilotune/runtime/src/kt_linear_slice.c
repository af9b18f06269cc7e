#include "kt_kernels.h"
#include "kt_line.h"

/* y (n,o) += x (n,c) of the chosen features times delta (count,o). */
void kt_linear_slice(const float *x, const kt_slice *slice, float *y, int n, int c, int o)
{
    for (int row = 0; row < n; row++, x += c, y += o) {
        for (int k = 0, depth; k < slice->count; k += depth) {
            depth = kt_depths(slice->count - k);
            float chosen[KT_DEPTH];
            for (int d = 0; d < depth; d++) {
                chosen[d] = x[slice->index[k + d]];
            }
            kt_line(1, depth, y, 0, slice->delta + k * o, (size_t)o, chosen, NULL, o);
        }
    }
}
