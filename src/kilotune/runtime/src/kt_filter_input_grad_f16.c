#define KT_NAME(name) name##_f16
#define KT_TYPE uint16_t
#define KT_GET kt_get_f16
#include "kt_filter_input_grad.inc"
