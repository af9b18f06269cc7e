#define KT_NAME(name) name##_f32
#define KT_TYPE float
#define KT_GET kt_get_f32
#include "kt_filter_input_grad.inc"
