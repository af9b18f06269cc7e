#include "kt_kernels.h"

/* y = a * b (or with add: added to y), where b has one element for every n of a. */
void kt_mul(const float *a, const float *b, float *y, int n_b, int n, int add)
{
    for (int i = 0; i < n_b; i++) {
        for (int p = i * n; p < (i + 1) * n; p++) {
            y[p] = add ? KT_FMA(y[p], a[p], b[i]) : a[p] * b[i];
        }
    }
}
