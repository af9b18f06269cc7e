#include "kt_kernels.h"

/* y (c,oh,ow) = the maximum of each window of x (c,h,w), the first one where several are equal; taps, if not NULL, receives its
   place in the window, one byte each. */
void kt_max_pool(const kt_pool *g, const float *x, float *y, uint8_t *taps)
{
    for (int i = 0; i < g->c * g->oh * g->ow; i++) {
        const float *const plane = x + i / (g->oh * g->ow) * g->h * g->w;
        const int top = i / g->ow % g->oh * g->sh - g->top, left = i % g->ow * g->sw - g->left;
        int found = -1;
        float most = 0.0f;
        for (int t = 0; t < g->kh * g->kw; t++) {
            const int row = top + t / g->kw * g->dh, column = left + t % g->kw * g->dw;
            if (row >= 0 && row < g->h && column >= 0 && column < g->w && (found < 0 || plane[row * g->w + column] > most)) {
                most = plane[row * g->w + column];
                found = t;
            }
        }
        y[i] = most;
        if (taps) {
            taps[i] = (uint8_t)found;
        }
    }
}
