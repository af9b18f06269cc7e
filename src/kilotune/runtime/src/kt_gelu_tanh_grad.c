#include "kt_elementwise.h"
#include "kt_gelu.h"
#include "kt_kernels.h"

KT_GRAD(kt_gelu_tanh_grad, kt_gelu_tanh_slope)
