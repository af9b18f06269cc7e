#include "kt_kernels.h"
#include "kt_norm.h"

/* y (m,n) = weight (n) * (x - mean) / sqrt(variance + epsilon) + bias (n), row by row; y may be x. */
void kt_layer_norm(const float *x, const float *weight, const float *bias, float *y, int m, int n, float epsilon)
{
    for (int row = 0; row < m; row++, x += n, y += n) {
        const kt_row_norm norm = kt_row_norm_of(x, n, epsilon);
        for (int i = 0; i < n; i++) {
            y[i] = KT_FMA(bias[i], (x[i] - norm.mean) * norm.inverse, weight[i]);
        }
    }
}
