#include "kt_store.h"
#include "kt_weights.h"

int kt_store_append_f32(kt_store *store, const float *weight, const float *scale, uint32_t n, uint32_t per_scale)
{
    for (uint32_t i = 0; i < n; i++) {
        const float number = kt_get_f32(weight, scale, i, (int)(i / per_scale));
        if (kt_store_append(store, &number, sizeof number) != 0) {
            return KT_STORE_FAILED;
        }
    }
    return 0;
}
