#define KT_NAME(name) name##_taps_f32
#define KT_TYPE float
#define KT_GET kt_get_f32
#define KT_ONLY_TAPS 1
#include "kt_depthwise_input_grad.inc"
