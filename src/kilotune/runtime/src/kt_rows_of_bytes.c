#include "kt_stream.h"

/* A row of an image of bytes, as numbers. */
void kt_rows_of_bytes(const kt_maker *self, int row, float *y, size_t ys)
{
    const kt_byte_rows *const s = (const kt_byte_rows *)(const void *)self;
    for (int c = 0; c < s->c; c++) {
        const uint8_t *const bytes = s->bytes + (c * s->h + row) * s->w;
        for (int p = 0; p < s->w; p++) {
            y[(size_t)c * ys + (size_t)p] = s->values[c * s->step + bytes[p]];
        }
    }
}
