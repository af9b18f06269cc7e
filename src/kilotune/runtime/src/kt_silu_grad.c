#include "kt_elementwise.h"
#include "kt_kernels.h"
#include "kt_smooth.h"

KT_GRAD(kt_silu_grad, kt_silu_slope)
