#include "kt_kernels.h"

/* Softmax of x (m,n,inner) along n; y may be x. */
void kt_softmax(const float *x, float *y, int m, int n, int inner)
{
    for (int i = 0; i < m * inner; i++) {
        const int first = i / inner * n * inner + i % inner;
        float most = x[first], sum = 0.0f;
        for (int p = 1; p < n; p++) {
            most = x[first + p * inner] > most ? x[first + p * inner] : most;
        }
        for (int p = 0; p < n; p++) {
            y[first + p * inner] = kt_expf(x[first + p * inner] - most);
            sum += y[first + p * inner];
        }
        for (int p = 0; p < n; p++) {
            y[first + p * inner] /= sum;
        }
    }
}
