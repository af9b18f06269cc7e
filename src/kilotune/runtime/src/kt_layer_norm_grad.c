#include "kt_kernels.h"
#include "kt_norm.h"

/* dx (m,n) = (g - mean g - u mean(g u)) / sqrt(variance + epsilon) with g = weight dy, u the normalised x; with add: added. */
void kt_layer_norm_grad(const float *dy, const float *x, const float *weight, float *dx, int m, int n, float epsilon, int add)
{
    for (int row = 0; row < m; row++, dy += n, x += n, dx += n) {
        const kt_row_norm norm = kt_row_norm_of(x, n, epsilon);
        float s[4] = {0, 0, 0, 0}, q[4] = {0, 0, 0, 0};
        for (int i = 0; i < n; i++) {
            const float g = weight[i] * dy[i];
            s[i & 3] += g;
            q[i & 3] = KT_FMA(q[i & 3], g, (x[i] - norm.mean) * norm.inverse);
        }
        const float mean = ((s[0] + s[1]) + (s[2] + s[3])) / (float)n, along = ((q[0] + q[1]) + (q[2] + q[3])) / (float)n;
        for (int i = 0; i < n; i++) {
            const float g = weight[i] * dy[i], u = (x[i] - norm.mean) * norm.inverse;
            const float d = norm.inverse * KT_FMA(g - mean, -along, u);
            dx[i] = add ? dx[i] + d : d;
        }
    }
}
