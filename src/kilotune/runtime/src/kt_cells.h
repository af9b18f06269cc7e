/* The choices of positions of a cell of 2 x 2, by number: combinations of 1, 2 or 3 of the positions 0 to 3, row by row. */
#ifndef KT_CELLS_H
#define KT_CELLS_H

#include <stdint.h>

#define KT_MOST_PATTERNS 6

/* Position number `tap` of pattern `number` of so many taps. */
static inline int kt_position(int taps, int number, int tap)
{
    static const uint8_t pairs[KT_MOST_PATTERNS][2] = {{0, 1}, {0, 2}, {0, 3}, {1, 2}, {1, 3}, {2, 3}};
    return taps == 1 ? number : taps == 2 ? pairs[number][tap] : tap + (tap >= 3 - number);
}

static inline int kt_n_patterns(int taps) { return taps == 2 ? KT_MOST_PATTERNS : 4; }

/* Elements of the record of a channel (h,w). */
static inline int kt_pattern_record(int h, int w, int taps) { return 1 + (h + 1) / 2 * ((w + 1) / 2) * taps; }

#endif
