/* Which positions of a map belong to a patch: patches are centred on it, what is odd goes to the top and the left. */
#ifndef KT_PATCHES_H
#define KT_PATCHES_H

/* Positions along one axis: `length` of each patch, the first patch `before` the map. */
typedef struct {
    int before, length, size;
} kt_axis;

static inline kt_axis kt_axis_of(int size, int n_patches, int length)
{
    const int missing = n_patches * length - size;
    const kt_axis axis = {missing > 0 ? (missing + 1) / 2 : -(-missing / 2), length, size};
    return axis;
}

/* The first position of a patch, and the one behind its last. */
static inline int kt_first(kt_axis axis, int number)
{
    const int first = number * axis.length - axis.before;
    return first < 0 ? 0 : first > axis.size ? axis.size : first;
}

/* The sum over one patch of a map. */
static inline float kt_patch_sum(const float *x, kt_axis rows, kt_axis columns, int row, int column)
{
    float sum = 0.0f;
    for (int i = kt_first(rows, row); i < kt_first(rows, row + 1); i++) {
        for (int j = kt_first(columns, column); j < kt_first(columns, column + 1); j++) {
            sum += x[i * columns.size + j];
        }
    }
    return sum;
}

#endif
