#include "kt_elementwise.h"
#include "kt_kernels.h"
#include "kt_smooth.h"

KT_GRAD(kt_hardswish_grad, kt_hardswish_slope)
