#include "kt_keeping.h"

/* How many of eight elements are kept. */
static inline int n_kept(int bits)
{
    const int pairs = bits - (bits >> 1 & 0x55), fours = (pairs & 0x33) + (pairs >> 2 & 0x33);
    return (fours + (fours >> 4)) & 15;
}

void kt_restore_prune(const kt_slice *slice, int k, const kt_slice *some, int n)
{
    const int words = (n + 31) / 32;
    const uint8_t *bits = (const uint8_t *)slice->kept;
    const float *value = slice->kept + (size_t)slice->count * (size_t)words;
    for (int byte = 0; byte < 4 * words * k; byte++) {
        value += n_kept(bits[byte]);
    }
    bits += (size_t)k * 4 * (size_t)words;
    for (int i = 0; i < some->count; i++, bits += 4 * words) {
        for (int p = 0; p < n; p++) {
            some->kept[i * n + p] = bits[p / 8] >> p % 8 & 1 ? *value++ : 0.0f;
        }
    }
}
