#include "kt_kernels.h"

/* y (n,c): row i is row rows[i] of x. */
void kt_take_rows(const float *x, const uint16_t *rows, float *y, int n, int c)
{
    for (int row = 0; row < n; row++, y += c) {
        const float *const from = x + rows[row] * c;
        for (int i = 0; i < c; i++) {
            y[i] = from[i];
        }
    }
}
