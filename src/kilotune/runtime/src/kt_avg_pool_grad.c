#include "kt_kernels.h"
#include "kt_windows.h"

/* dx (c,h,w) from dy (c,oh,ow) of kt_avg_pool; with add: added to dx. */
void kt_avg_pool_grad(const kt_pool *g, const float *dy, float *dx, int padded, int add)
{
    for (int i = 0; i < g->c * g->h * g->w && !add; i++) {
        dx[i] = 0.0f;
    }
    for (int i = 0; i < g->c * g->oh * g->ow; i++) {
        float *const plane = dx + i / (g->oh * g->ow) * g->h * g->w;
        const kt_window a = kt_window_at(g, i / g->ow % g->oh, i % g->ow);
        const float d = dy[i] / (float)(padded ? kt_padded_size(g, i / g->ow % g->oh, i % g->ow) : (a.bottom - a.top) * (a.right - a.left));
        for (int row = a.top; row < a.bottom; row++) {
            for (int column = a.left; column < a.right; column++) {
                plane[row * g->w + column] += d;
            }
        }
    }
}
