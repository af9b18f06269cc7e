#include "kt_kernels.h"

/* y (m,inner) = mean of x (m,n,inner) over n. */
void kt_mean_rows(const float *x, float *y, int m, int n, int inner)
{
    for (int i = 0; i < m; i++, y += inner) {
        for (int j = 0; j < inner; j++) {
            y[j] = 0.0f;
        }
        for (int p = 0; p < n; p++, x += inner) {
            for (int j = 0; j < inner; j++) {
                y[j] += x[j];
            }
        }
        for (int j = 0; j < inner; j++) {
            y[j] /= (float)n;
        }
    }
}
