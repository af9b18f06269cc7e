#include "kt_keeping.h"
#include "kt_math.h"
#include "kt_cells.h"

/* The element at a position of a cell; zero beyond an odd edge. */
static inline float at(const float *x, int h, int w, int row, int column, int position)
{
    const int i = 2 * row + position / 2, j = 2 * column + position % 2;
    return i < h && j < w ? x[i * w + j] : 0.0f;
}

/* The first of the patterns that hold most energy. */
static int fullest(const float *x, int h, int w, int taps)
{
    float energy[4] = {0}, most = -1.0f;
    int found = 0;
    for (int row = 0; row < (h + 1) / 2; row++) {
        for (int column = 0; column < (w + 1) / 2; column++) {
            for (int position = 0; position < 4; position++) {
                const float v = at(x, h, w, row, column, position);
                energy[position] = KT_FMA(energy[position], v, v);
            }
        }
    }
    for (int number = 0; number < kt_n_patterns(taps); number++) {
        float sum = 0.0f;
        for (int tap = 0; tap < taps; tap++) {
            sum += energy[kt_position(taps, number, tap)];
        }
        if (sum > most) {
            most = sum;
            found = number;
        }
    }
    return found;
}

/* Of every trained channel (h,w): the number of its pattern, then the values there, cell by cell. */
void kt_keep_pattern(const float *x, const kt_slice *slice, int h, int w, int taps)
{
    float *record = slice->kept;
    for (int k = 0; k < slice->count; k++, record += kt_pattern_record(h, w, taps)) {
        const float *const from = x + slice->index[k] * h * w;
        const int number = fullest(from, h, w, taps);
        float *value = record + 1;
        *(uint8_t *)record = (uint8_t)number;
        for (int row = 0; row < (h + 1) / 2; row++) {
            for (int column = 0; column < (w + 1) / 2; column++) {
                for (int tap = 0; tap < taps; tap++) {
                    *value++ = at(from, h, w, row, column, kt_position(taps, number, tap));
                }
            }
        }
    }
}
