#include "kt_elementwise.h"
#include "kt_kernels.h"
#include "kt_smooth.h"

KT_GRAD(kt_tanh_grad, kt_tanh_slope)
