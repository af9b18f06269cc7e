/* Which outputs of a row see the input through one tap: columns low to high. */
#include "kt_types.h"

typedef struct {
    int low, high, shift; /* output j reads input j * sw + shift */
} kt_span;

static inline kt_span kt_span_of(const kt_conv *g, int t, int sw)
{
    const int shift = t * g->dw - g->left;
    const int high = g->w > shift ? (g->w - 1 - shift) / sw + 1 : 0;
    const kt_span span = {shift < 0 ? (-shift + sw - 1) / sw : 0, high < g->ow ? high : g->ow, shift};
    return span;
}
