/* Element-wise functions as tables of expressions: each becomes a forward kernel and a gradient kernel. Input and output may be
   the same memory. */
#ifndef KT_ELEMENTWISE_H
#define KT_ELEMENTWISE_H

#include "kt_vec.h"

#if KT_VECTORS
/* Eight bytes, 0 or 1, as the bits of one: no two other products of this multiplication meet, so nothing is carried. */
static inline uint8_t kt_gathered(const uint8_t *passes)
{
    uint64_t bytes = 0;
    for (int b = 0; b < 8; b++) {
        bytes |= (uint64_t)passes[b] << (8 * b);
    }
    return (uint8_t)(bytes * 0x0102040810204080u >> 56);
}

/* As many as make vectors, in loops that the compiler turns into them. */
#define KT_MASK_BLOCKS(F, PASSES)                         \
    for (; i + 64 <= n; i += 64) {                        \
        uint8_t passes[64];                               \
        for (int b = 0; b < 64; b++) {                    \
            const float v = x[i + b], u = F(v);           \
            y[i + b] = u;                                 \
        }                                                 \
        for (int b = 0; b < 64; b++) {                    \
            const float u = y[i + b];                     \
            passes[b] = (uint8_t)(PASSES(u));             \
        }                                                 \
        for (int b = 0; b < 64; b += 8) {                 \
            *mask++ = kt_gathered(passes + b);            \
        }                                                 \
    }
#else
#define KT_MASK_BLOCKS(F, PASSES)
#endif

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
#define KT_FORWARD_MASK(name, F, PASSES)                                    \
    void name(const float *x, float *y, uint8_t *mask, int n)               \
    {                                                                       \
        int i = 0;                                                          \
        KT_MASK_BLOCKS(F, PASSES)                                           \
        for (; i + 8 <= n; i += 8) {                                        \
            uint32_t byte = 0;                                              \
            for (int b = 0; b < 8; b++) {                                   \
                const float v = x[i + b], u = F(v);                         \
                byte |= (uint32_t)(PASSES(u)) << b;                         \
                y[i + b] = u;                                               \
            }                                                               \
            *mask++ = (uint8_t)byte;                                        \
        }                                                                   \
        for (int b = 0; i < n; i++, b++) {                                  \
            const float v = x[i], u = F(v);                                 \
            *mask = (uint8_t)((b ? *mask : 0u) | (uint32_t)(PASSES(u)) << b); \
            y[i] = u;                                                       \
        }                                                                   \
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
