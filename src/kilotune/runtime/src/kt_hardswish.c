#include "kt_elementwise.h"
#include "kt_kernels.h"
#include "kt_smooth.h"

KT_FORWARD(kt_hardswish, kt_hardswish_of)
