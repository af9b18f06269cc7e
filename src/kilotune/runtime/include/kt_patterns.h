/* Kernels that have taps at a few places only. Wherever their numbers lie, in flash, in the store or in a slice, there are those of
   the taps and no others: (o, c/groups, taps) instead of (o, c/groups, kh, kw). */
#ifndef KT_PATTERNS_H
#define KT_PATTERNS_H

#include <stdint.h>

typedef struct {
    const uint8_t *number; /* (o, c/groups) the pattern of each kernel */
    const uint8_t *places; /* (patterns, taps) the places of its taps in the kernel, increasing */
    uint8_t taps;
} kt_patterns;

/* The places of the taps of a kernel. */
static inline const uint8_t *kt_places(const kt_patterns *patterns, int kernel)
{
    return patterns->places + patterns->number[kernel] * patterns->taps;
}

/* Which tap of a kernel is at `place`, -1 if there is none. */
static inline int kt_tap_at(const kt_patterns *patterns, int kernel, int place)
{
    const uint8_t *const places = kt_places(patterns, kernel);
    for (int t = 0; t < patterns->taps; t++) {
        if (places[t] == place) {
            return t;
        }
    }
    return -1;
}

/* f (size): its first numbers, those of the taps, go to their places, zeros to the others. Backwards, since no place is before its tap. */
static inline void kt_to_places(const uint8_t *places, int taps, float *f, int size)
{
    for (int t = taps; t < size; t++) {
        f[t] = 0.0f;
    }
    for (int t = taps - 1; t >= 0; t--) {
        const float number = f[t];
        f[t] = 0.0f;
        f[places[t]] = number;
    }
}

/* One text for both kinds of kernels: files that define KT_ONLY_TAPS are about those with patterns. */
#ifdef KT_ONLY_TAPS
#define KT_AND_PATTERNS , const kt_patterns *patterns
#define KT_WITH_PATTERNS , patterns
#define KT_N_TAPS(all) (patterns->taps)
#define KT_PLACE(kernel, tap) (kt_places(patterns, kernel)[tap])
#define KT_TAP_AT(kernel, place) kt_tap_at(patterns, kernel, place)
#define KT_IS_TAP(tap) ((tap) >= 0)
#define KT_CLEAR(f, n) kt_fill(f, 0.0f, n)
#else
#define KT_AND_PATTERNS
#define KT_WITH_PATTERNS
#define KT_N_TAPS(all) (all)
#define KT_PLACE(kernel, tap) (tap)
#define KT_TAP_AT(kernel, place) (place)
#define KT_IS_TAP(tap) 1
#define KT_CLEAR(f, n) (void)0
#endif

#endif
