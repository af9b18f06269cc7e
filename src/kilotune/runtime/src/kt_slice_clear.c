#include "kt_kernels.h"

/* The gradient of a slice becomes 0. */
void kt_slice_clear(const kt_slice *slice, const kt_layer *layer)
{
    kt_zero(slice->gradient, slice->count * layer->rows * layer->kernel);
}
