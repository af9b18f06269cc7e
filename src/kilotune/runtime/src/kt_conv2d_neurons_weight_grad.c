#define KT_NAME(name) name
#include "kt_conv2d_neurons_weight_grad.inc"
