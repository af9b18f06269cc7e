#include "kt_keeping.h"
#include "kt_patches.h"

void kt_keep_filter(const kt_conv *g, const kt_conv *coarse, const float *x, const kt_slice *slice, int patch)
{
    const kt_axis rows = kt_axis_of(g->h, coarse->h, patch * g->sh), columns = kt_axis_of(g->w, coarse->w, patch * g->sw);
    float *kept = slice->kept;
    for (int k = 0; k < slice->count; k++) {
        for (int p = 0; p < coarse->h * coarse->w; p++) {
            *kept++ = kt_patch_sum(x + slice->index[k] * g->h * g->w, rows, columns, p / coarse->w, p % coarse->w);
        }
    }
}
