#include "kt_elementwise.h"
#include "kt_gelu.h"
#include "kt_kernels.h"

KT_FORWARD(kt_gelu, kt_gelu_of)
