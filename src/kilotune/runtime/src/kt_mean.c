#include "kt_kernels.h"

/* y (m) = mean of x (m,n) over n. */
void kt_mean(const float *x, float *y, int m, int n)
{
    for (int i = 0; i < m; i++, x += n) {
        float s[4] = {0, 0, 0, 0};
        for (int p = 0; p < n; p++) {
            s[p & 3] += x[p];
        }
        y[i] = ((s[0] + s[1]) + (s[2] + s[3])) / (float)n;
    }
}
