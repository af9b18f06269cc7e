#include "kt_keeping.h"
#include "kt_math.h"

#define DIGIT 6
#define DIGITS (1 << DIGIT)
#define HIGHEST 30 /* where the highest digit of a magnitude starts */

/* Magnitudes of numbers have the order of their bits. */
static inline uint32_t magnitude(float x) { return kt_bits(x) & 0x7FFFFFFFu; }

typedef struct {
    const float *x;
    const kt_slice *slice;
    int n, channel, step;
} input;

static inline uint32_t element(const input *in, int k, int p)
{
    return magnitude(in->x[in->slice->index[k] * in->channel + p * in->step]);
}

/* How many elements have each digit at `shift`, of those that agree with `prefix` above it. */
static void count_digits(const input *in, uint32_t prefix, int shift, uint32_t *counts)
{
    for (int digit = 0; digit < DIGITS; digit++) {
        counts[digit] = 0;
    }
    for (int k = 0; k < in->slice->count; k++) {
        for (int p = 0; p < in->n; p++) {
            const uint32_t found = element(in, k, p);
            if ((uint64_t)found >> (shift + DIGIT) == (uint64_t)prefix >> (shift + DIGIT)) {
                counts[found >> shift & (DIGITS - 1)]++;
            }
        }
    }
}

/* What the magnitudes of the `wanted` largest begin with, digit by digit from the highest; *equal: how many of exactly that magnitude may
   be among them. Done as soon as all that begin so are wanted. */
static uint32_t threshold(const input *in, uint32_t wanted, uint32_t *equal)
{
    uint32_t found = 0;
    for (int shift = HIGHEST; shift >= 0; shift -= DIGIT) {
        uint32_t counts[DIGITS], digit = DIGITS - 1;
        count_digits(in, found, shift, counts);
        while (digit > 0 && counts[digit] < wanted) {
            wanted -= counts[digit--];
        }
        found |= digit << shift;
        if (counts[digit] == wanted) {
            break;
        }
    }
    *equal = wanted;
    return found;
}

/* The largest elements of all trained channels together, without memory for their order. */
void kt_keep_prune(const float *x, const kt_slice *slice, int n, int channel, int step, int values)
{
    const input in = {x, slice, n, channel, step};
    const int words = (n + 31) / 32;
    float *value = slice->kept + (size_t)slice->count * words;
    uint32_t equal, least = threshold(&in, (uint32_t)slice->count * (uint32_t)values, &equal);
    for (int k = 0; k < slice->count; k++) {
        const float *const from = x + slice->index[k] * channel;
        uint8_t *const bits = (uint8_t *)(slice->kept + (size_t)k * words);
        for (int byte = 0; byte < 4 * words; byte++) {
            bits[byte] = 0;
        }
        for (int p = 0; p < n; p++) {
            const uint32_t found = element(&in, k, p);
            if (found > least || (found == least && equal > 0)) {
                equal -= found == least;
                bits[p / 8] = (uint8_t)(bits[p / 8] | 1 << p % 8);
                *value++ = from[p * step];
            }
        }
    }
}
