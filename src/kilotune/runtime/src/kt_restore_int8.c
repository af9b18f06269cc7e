#include "kt_few_bits.h"

void kt_restore_int8(const kt_slice *slice, int k, const kt_slice *some, int n)
{
    for (int i = 0; i < some->count; i++) {
        const float *const record = kt_record(slice, k + i, n, 8);
        const int8_t *const whole = (const int8_t *)(record + 1);
        for (int p = 0; p < n; p++) {
            some->kept[i * n + p] = (float)whole[p] * *record;
        }
    }
}
