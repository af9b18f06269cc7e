/* Where a pooling window lies in its plane. */
#ifndef KT_WINDOWS_H
#define KT_WINDOWS_H

#include "kt_types.h"

typedef struct {
    int top, bottom, left, right;
} kt_window;

/* Rows [top, bottom) and columns [left, right) of output (row, column), clipped to the plane. */
static inline kt_window kt_window_at(const kt_pool *g, int row, int column)
{
    const int top = row * g->sh - g->top, left = column * g->sw - g->left;
    const int bottom = top + g->kh, right = left + g->kw;
    const kt_window window = {top < 0 ? 0 : top, bottom > g->h ? g->h : bottom, left < 0 ? 0 : left, right > g->w ? g->w : right};
    return window;
}

/* Elements of the window with its padding; beyond the padding (ceil mode) there is nothing. */
static inline int kt_padded_size(const kt_pool *g, int row, int column)
{
    const int top = row * g->sh - g->top, left = column * g->sw - g->left;
    const int bottom = top + g->kh < g->h + g->top ? top + g->kh : g->h + g->top;
    const int right = left + g->kw < g->w + g->left ? left + g->kw : g->w + g->left;
    return (bottom - top) * (right - left);
}

/* kt_window_at for adaptive pooling: rows floor(i h / oh) to ceil((i + 1) h / oh). */
static inline kt_window kt_adaptive_window(const kt_pool *g, int row, int column)
{
    const kt_window window = {row * g->h / g->oh, ((row + 1) * g->h + g->oh - 1) / g->oh, column * g->w / g->ow,
                              ((column + 1) * g->w + g->ow - 1) / g->ow};
    return window;
}

#endif
