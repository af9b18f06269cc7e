#define KT_NAME(name) name##_f32
#define KT_TYPE float
#define KT_GET kt_get_f32
#define KT_ROWS_FROM kt_rows_f32
#include "kt_linear.inc"
