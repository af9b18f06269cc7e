#include "kt_kernels.h"

/* y (c,n) = scale (c) * x (c,n) + shift (c); shift NULL: 0. y may be x. */
void kt_channel_affine(const float *x, const float *scale, const float *shift, float *y, int c, int n)
{
    for (int i = 0; i < c * n; i++) {
        y[i] = KT_FMA(shift ? shift[i / n] : 0.0f, scale[i / n], x[i]);
    }
}
