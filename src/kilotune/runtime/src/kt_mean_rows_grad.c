#include "kt_kernels.h"

/* dx (m,n,inner) = dy (m,inner) / n, with add: added. */
void kt_mean_rows_grad(const float *dy, float *dx, int m, int n, int inner, int add)
{
    for (int i = 0; i < m; i++, dy += inner) {
        for (int p = 0; p < n; p++, dx += inner) {
            for (int j = 0; j < inner; j++) {
                const float d = dy[j] / (float)n;
                dx[j] = add ? dx[j] + d : d;
            }
        }
    }
}
