#include "kt_keeping.h"
#include "kt_cells.h"

static void put(float *to, int h, int w, int row, int column, int position, float value)
{
    const int i = 2 * row + position / 2, j = 2 * column + position % 2;
    if (i < h && j < w) {
        to[i * w + j] = value;
    }
}

void kt_restore_pattern(const kt_slice *slice, int k, const kt_slice *some, int h, int w, int taps)
{
    const int size = kt_pattern_record(h, w, taps);
    for (int i = 0; i < some->count; i++) {
        const float *const record = slice->kept + (size_t)(k + i) * (size_t)size, *value = record + 1;
        float *const to = some->kept + i * h * w;
        const int number = *(const uint8_t *)record;
        for (int p = 0; p < h * w; p++) {
            to[p] = 0.0f;
        }
        for (int row = 0; row < (h + 1) / 2; row++) {
            for (int column = 0; column < (w + 1) / 2; column++) {
                for (int tap = 0; tap < taps; tap++) {
                    put(to, h, w, row, column, kt_position(taps, number, tap), *value++);
                }
            }
        }
    }
}
