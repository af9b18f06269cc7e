#include "kt_kernels.h"

/* dx (m,n,inner) = y (dy - sum of y dy over n), with add: added; dx may be dy. */
void kt_softmax_grad(const float *dy, const float *y, float *dx, int m, int n, int inner, int add)
{
    for (int i = 0; i < m * inner; i++) {
        const int first = i / inner * n * inner + i % inner;
        float sum = 0.0f;
        for (int p = 0; p < n; p++) {
            sum = KT_FMA(sum, y[first + p * inner], dy[first + p * inner]);
        }
        for (int p = 0; p < n; p++) {
            const int at = first + p * inner;
            const float d = y[at] * (dy[at] - sum);
            dx[at] = add ? dx[at] + d : d;
        }
    }
}
