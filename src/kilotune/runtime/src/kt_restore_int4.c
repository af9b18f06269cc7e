#include "kt_few_bits.h"

void kt_restore_int4(const kt_slice *slice, int k, const kt_slice *some, int n)
{
    for (int i = 0; i < some->count; i++) {
        const float *const record = kt_record(slice, k + i, n, 4);
        const uint8_t *const pairs = (const uint8_t *)(record + 1);
        for (int p = 0; p < n; p++) {
            const int whole = pairs[p / 2] >> p % 2 * 4 & 15;
            some->kept[i * n + p] = (float)(whole > 7 ? whole - 16 : whole) * *record;
        }
    }
}
