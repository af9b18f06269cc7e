#include "kt_keeping.h"
#include "kt_patches.h"

/* Means of dy (o,oh,ow) over the positions of each patch that there are. */
void kt_patch_means(const kt_conv *g, const kt_conv *coarse, const float *dy, int patch, float *means)
{
    const kt_axis rows = kt_axis_of(g->oh, coarse->h, patch), columns = kt_axis_of(g->ow, coarse->w, patch);
    for (int o = 0; o < g->o; o++) {
        for (int p = 0; p < coarse->h * coarse->w; p++) {
            const int row = p / coarse->w, column = p % coarse->w;
            const int high = kt_first(rows, row + 1) - kt_first(rows, row);
            const int wide = kt_first(columns, column + 1) - kt_first(columns, column);
            *means++ = kt_patch_sum(dy + o * g->oh * g->ow, rows, columns, row, column) / (float)(high * wide);
        }
    }
}
