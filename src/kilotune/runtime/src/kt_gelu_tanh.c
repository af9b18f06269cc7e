#include "kt_elementwise.h"
#include "kt_gelu.h"
#include "kt_kernels.h"

KT_FORWARD(kt_gelu_tanh, kt_gelu_tanh_of)
