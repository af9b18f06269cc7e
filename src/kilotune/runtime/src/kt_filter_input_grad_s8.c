#define KT_NAME(name) name##_s8
#define KT_TYPE int8_t
#define KT_GET kt_get_s8
#include "kt_filter_input_grad.inc"
