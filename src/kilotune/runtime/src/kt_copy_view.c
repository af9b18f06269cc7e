#include "kt_kernels.h"

/* Copies along six axes; view: their sizes, the steps in from, the steps in to; with add: added, in the order of the axes. */
void kt_copy_view(const int32_t *view, const float *from, float *to, int add)
{
    const int32_t *const size = view, *const source = view + 6, *const target = view + 12;
    int32_t place[5] = {0, 0, 0, 0, 0}, x = 0, y = 0;
    int axis = 0;
    while (axis >= 0) {
        for (int32_t i = 0; i < size[5]; i++) {
            const float value = from[x + i * source[5]];
            float *const at = to + y + i * target[5];
            *at = add ? *at + value : value;
        }
        for (axis = 4; axis >= 0; axis--) {
            x += source[axis];
            y += target[axis];
            if (++place[axis] < size[axis]) {
                break;
            }
            x -= size[axis] * source[axis];
            y -= size[axis] * target[axis];
            place[axis] = 0;
        }
    }
}
