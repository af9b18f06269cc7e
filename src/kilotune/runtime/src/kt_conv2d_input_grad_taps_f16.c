#define KT_NAME(name) name##_taps_f16
#define KT_TYPE uint16_t
#define KT_GET kt_get_f16
#define KT_ONLY_TAPS 1
#include "kt_conv2d_input_grad.inc"
