#include "kt_kernels.h"
#include "kt_norm.h"

/* The chosen features of the layer norm of x (n,c) into slice->kept (n,count), row i from row rows[i] of x. */
void kt_layer_norm_features(const float *x, const uint16_t *rows, const float *weight, const float *bias, const kt_slice *slice, int n,
                            int c, float epsilon)
{
    float *kept = slice->kept;
    for (int row = 0; row < n; row++, kept += slice->count) {
        const float *const from = x + rows[row] * c;
        const kt_row_norm norm = kt_row_norm_of(from, c, epsilon);
        for (int k = 0; k < slice->count; k++) {
            const int i = slice->index[k];
            kept[k] = KT_FMA(bias[i], (from[i] - norm.mean) * norm.inverse, weight[i]);
        }
    }
}
