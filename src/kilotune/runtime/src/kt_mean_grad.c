#include "kt_kernels.h"

/* dx (m,n) = dy (m) / n; with add: added to dx. */
void kt_mean_grad(const float *dy, float *dx, int m, int n, int add)
{
    for (int i = 0; i < m; i++) {
        const float d = dy[i] / (float)n;
        for (int p = i * n; p < (i + 1) * n; p++) {
            dx[p] = add ? dx[p] + d : d;
        }
    }
}
