/* Element-wise functions as tables of expressions: each becomes a forward kernel and a gradient kernel. Input and output may be
   the same memory. */
#ifndef KT_ELEMENTWISE_H
#define KT_ELEMENTWISE_H

#include "kt_math.h"

/* y = F(x). */
#define KT_FORWARD(name, F)                            \
    void name(const float *x, float *y, int n)         \
    {                                                  \
        for (int i = 0; i < n; i++) {                  \
            const float v = x[i];                      \
            y[i] = F(v);                               \
        }                                              \
    }

/* y = F(x), and one bit per element, lowest first: whether PASSES(y). */
#define KT_FORWARD_MASK(name, F, PASSES)                       \
    void name(const float *x, float *y, uint8_t *mask, int n)  \
    {                                                          \
        for (int i = 0; i < n; i += 8, mask++) {               \
            const int bits = n - i < 8 ? n - i : 8;            \
            unsigned byte = 0;                                 \
            for (int b = 0; b < bits; b++) {                   \
                const float v = x[i + b], u = F(v);            \
                y[i + b] = u;                                  \
                byte |= (unsigned)(PASSES(u)) << b;            \
            }                                                  \
            *mask = (uint8_t)byte;                             \
        }                                                      \
    }

/* dx = D(kept) * dy, or with add: added to dx. */
#define KT_GRAD(name, D)                                                            \
    void name(const float *dy, const float *kept, float *dx, int n, int add)        \
    {                                                                               \
        for (int i = 0; i < n; i++) {                                               \
            const float v = kept[i], d = dy[i] * D(v);                              \
            dx[i] = add ? dx[i] + d : d;                                            \
        }                                                                           \
    }

#endif
