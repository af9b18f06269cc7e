#include "kt_kernels.h"

/* Copies (outer, middle, inner) elements between two memories with their own steps for outer and middle; with add: added. */
void kt_copy(const float *from, int from_outer, int from_middle, float *to, int to_outer, int to_middle, int outer, int middle,
             int inner, int add)
{
    for (int i = 0; i < outer; i++) {
        for (int j = 0; j < middle; j++) {
            const float *const x = from + i * from_outer + j * from_middle;
            float *const y = to + i * to_outer + j * to_middle;
            for (int p = 0; p < inner; p++) {
                y[p] = add ? y[p] + x[p] : x[p];
            }
        }
    }
}
