#include "kt_plan.h"

uint8_t *kt_place(kt_slice *slices, const kt_layer *layers, size_t n_layers, const kt_region *region)
{
    float *place = (float *)(void *)region->top;
    for (size_t l = 0; l < n_layers; l++) {
        const size_t weights = (size_t)slices[l].count * layers[l].rows * layers[l].kernel;
        place -= weights * region->copies;
        slices[l].delta = place;
        slices[l].gradient = place + weights;
        slices[l].velocity = region->copies > 1 + region->accumulate ? place + weights * (1u + region->accumulate) : NULL;
    }
    float *deepest = place;
    for (size_t l = 0; l < n_layers; l++) {
        const size_t weights = (size_t)slices[l].count * layers[l].rows * layers[l].kernel;
        float *const kept = place - (size_t)slices[l].count * layers[l].channel_inputs;
        slices[l].kept = kept;
        if (!region->accumulate) {
            slices[l].gradient = kept - weights;
        }
        place = layers[l].again ? place : kept;
        float *const lowest = region->accumulate ? kept : kept - weights;
        deepest = lowest < deepest ? lowest : deepest;
    }
    return (uint8_t *)deepest;
}
