#define KT_NAME(name) name##_taps
#define KT_ONLY_TAPS 1
#include "kt_conv2d_neurons.inc"
