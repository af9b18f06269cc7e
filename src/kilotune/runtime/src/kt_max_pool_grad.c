#include "kt_kernels.h"

/* dx (c,h,w) from dy (c,oh,ow) and the places that kt_max_pool kept; with add: added to dx. */
void kt_max_pool_grad(const kt_pool *g, const float *dy, const uint8_t *taps, float *dx, int add)
{
    for (int i = 0; i < g->c * g->h * g->w && !add; i++) {
        dx[i] = 0.0f;
    }
    for (int i = 0; i < g->c * g->oh * g->ow; i++) {
        const int row = i / g->ow % g->oh * g->sh - g->top + taps[i] / g->kw * g->dh;
        const int column = i % g->ow * g->sw - g->left + taps[i] % g->kw * g->dw;
        dx[(i / (g->oh * g->ow) * g->h + row) * g->w + column] += dy[i];
    }
}
