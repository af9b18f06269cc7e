#include "kt_kernels.h"
#include "kt_windows.h"

/* y (c,oh,ow) = the mean of x (c,h,w) over a grid of windows. */
void kt_adaptive_avg_pool(const kt_pool *g, const float *x, float *y)
{
    for (int i = 0; i < g->c * g->oh * g->ow; i++) {
        const float *const plane = x + i / (g->oh * g->ow) * g->h * g->w;
        const kt_window a = kt_adaptive_window(g, i / g->ow % g->oh, i % g->ow);
        float sum = 0.0f;
        for (int row = a.top; row < a.bottom; row++) {
            for (int column = a.left; column < a.right; column++) {
                sum += plane[row * g->w + column];
            }
        }
        y[i] = sum / (float)((a.bottom - a.top) * (a.right - a.left));
    }
}
