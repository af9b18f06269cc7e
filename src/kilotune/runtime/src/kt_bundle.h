/* Channels of a depthwise convolution side by side: a pixel is a vector of KT_WIDE channels, and there are pixels of zeros around the
   plane, so that every kernel, stride and dilation is the same loop. For processors with vectors, and planes that are not too large. */
#ifndef KT_BUNDLE_H
#define KT_BUNDLE_H

#include "kt_line.h"

#define KT_BUNDLE 20480  /* numbers of a plane of such pixels with its frame */
#define KT_UNFRAMED 8192 /* and of one without; larger ones are quicker as planes (kt_flat.h) */
#define KT_TAPS (KT_MAX_KERNEL * KT_MAX_KERNEL)

/* A plane with zeros around it: rows and columns before it, and all rows and columns. */
typedef struct {
    int above, left, rows, columns;
} kt_frame;

static inline int kt_least(int a, int b) { return a < b ? a : b; }

/* What the taps of all outputs read. */
static inline kt_frame kt_frame_of_inputs(const kt_conv *g)
{
    const kt_frame a = {g->top, g->left, (g->oh - 1) * g->sh + (g->kh - 1) * g->dh + 1, (g->ow - 1) * g->sw + (g->kw - 1) * g->dw + 1};
    return a;
}

/* Where in it tap t of the first output reads. */
static inline int kt_frame_tap(const kt_conv *g, const kt_frame *a, int t) { return t / g->kw * g->dh * a->columns + t % g->kw * g->dw; }

/* Whether a frame and a plane of n pixels without one are small enough. */
static inline int kt_bundle_fits(const kt_frame *a, int n)
{
    return a->rows * a->columns * KT_WIDE <= KT_BUNDLE && n * KT_WIDE <= KT_UNFRAMED;
}

/* Planes (count,h,w) as pixels, as far as they are inside the frame. */
static inline void kt_bundle_in(const kt_frame *a, const float *x, int count, int h, int w, float *pixels)
{
    kt_fill(pixels, 0.0f, a->rows * a->columns * KT_WIDE);
    for (int row = 0; row < h && a->above + row < a->rows; row++) {
        float *const to = pixels + ((a->above + row) * a->columns + a->left) * KT_WIDE;
        kt_turn(x + row * w, (size_t)(h * w), count, kt_least(w, a->columns - a->left), to, KT_WIDE);
    }
}

/* n pixels into the planes of `count` channels; a few of these at a time, since they often lie a power of two apart. */
static inline void kt_bundle_out(const float *pixels, int n, int count, float *y)
{
    for (int c = 0; c < count; c += 8) {
        kt_turn(pixels + c, KT_WIDE, n, kt_least(count - c, 8), y + c * n, n);
    }
}

/* Pixels y[i * y_step] = start + sum over taps of f[t] * x[offset[t] + i * step], i < n; start: first, or where that is NULL what y
   holds. */
#define KT_PIXELS(EACH)                                                                                                        \
    {                                                                                                                          \
        EACH(KT_BEGIN_PIXEL)                                                                                                   \
        for (int t = 0; t < taps; t++) {                                                                                       \
            const KT_VEC w = KT_WIDEST(_take)(f + t * KT_WIDE, 1);                                                             \
            const float *const at = x + (offset[t] + i * step) * KT_WIDE;                                                      \
            EACH(KT_STEP_PIXEL)                                                                                                \
        }                                                                                                                      \
        EACH(KT_END_PIXEL)                                                                                                     \
    }
#define KT_BEGIN_PIXEL(r) KT_VEC a##r = KT_WIDEST(_take)(first ? first : y + (i + r) * y_step * KT_WIDE, 1);
#define KT_STEP_PIXEL(r) a##r = KT_WIDEST(_mac)(a##r, w, KT_WIDEST(_take)(at + r * step * KT_WIDE, 1));
#define KT_END_PIXEL(r) KT_WIDEST(_put)(y + (i + r) * y_step * KT_WIDE, 1, a##r);
#define KT_ONE_PIXEL(DO) DO(0)
#define KT_FOUR_PIXELS(DO) DO(0) DO(1) DO(2) DO(3)

static inline void kt_pixels(int n, int taps, const int *offset, const float *x, int step, const float *f, const float *first, float *y,
                             int y_step)
{
    int i = 0;
    for (; i + 4 <= n; i += 4) {
        KT_PIXELS(KT_FOUR_PIXELS)
    }
    for (; i < n; i++) {
        KT_PIXELS(KT_ONE_PIXEL)
    }
}

#endif
