#include "kt_elementwise.h"
#include "kt_kernels.h"
#include "kt_smooth.h"

KT_GRAD(kt_sigmoid_grad, kt_sigmoid_slope)
