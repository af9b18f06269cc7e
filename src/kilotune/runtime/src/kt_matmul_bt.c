#include "kt_kernels.h"

/* y (times,m,n) = scale * a (times,m,k) b (times,n,k)^T, with add: added. */
void kt_matmul_bt(const float *a, const float *b, float *y, int times, int m, int k, int n, float scale, int add)
{
    for (int t = 0; t < times; t++, a += m * k, b += k * n, y += m * n) {
        for (int i = 0; i < m; i++) {
            for (int j = 0; j < n; j++) {
                float sum = 0.0f;
                for (int p = 0; p < k; p++) {
                    sum = KT_FMA(sum, a[i * k + p], b[j * k + p]);
                }
                y[i * n + j] = add ? KT_FMA(y[i * n + j], scale, sum) : scale * sum;
            }
        }
    }
}
