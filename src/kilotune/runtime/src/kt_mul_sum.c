#include "kt_kernels.h"

/* y (m) = sum of a (m,n) * b (m,n) over n, or with add: added to y. */
void kt_mul_sum(const float *a, const float *b, float *y, int m, int n, int add)
{
    for (int i = 0; i < m; i++) {
        float s = add ? y[i] : 0.0f;
        for (int p = i * n; p < (i + 1) * n; p++) {
            s = KT_FMA(s, a[p], b[p]);
        }
        y[i] = s;
    }
}
