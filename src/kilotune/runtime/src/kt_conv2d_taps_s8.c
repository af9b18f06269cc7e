#define KT_NAME(name) name##_taps_s8
#define KT_TYPE int8_t
#define KT_GET kt_get_s8
#define KT_ONLY_TAPS 1
#include "kt_conv2d.inc"
