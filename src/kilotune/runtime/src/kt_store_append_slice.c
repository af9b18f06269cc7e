#include "kt_plan.h"

/* Weights are (o, c/groups, kernel), deltas (count, rows, kernel): a channel is looked up once per row. */
int kt_store_append_slice(kt_store *store, const float *committed, const kt_layer *layer, const kt_slice *slice)
{
    const uint32_t per_group = layer->channels / layer->groups, n_outputs = (uint32_t)layer->rows * layer->groups;
    const float *weight = committed + layer->weight;

    for (uint32_t o = 0; o < n_outputs; o++) {
        const uint32_t first = o / layer->rows * per_group;
        uint32_t k = 0;

        while (k < slice->count && slice->index[k] < first) {
            k++;
        }
        for (uint32_t c = first; c < first + per_group; c++) {
            const int trained = k < slice->count && slice->index[k] == c;
            const float *delta = trained ? slice->delta + (k * layer->rows + o % layer->rows) * layer->kernel : NULL;

            for (uint32_t t = 0; t < layer->kernel; t++) {
                const float number = *weight++ + (trained ? delta[t] : 0.0f);
                if (kt_store_append(store, &number, sizeof number) != 0) {
                    return KT_STORE_FAILED;
                }
            }
            k += (uint32_t)trained;
        }
    }
    return 0;
}
