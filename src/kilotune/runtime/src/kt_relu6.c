#include "kt_elementwise.h"
#include "kt_kernels.h"
#include "kt_relu6.h"

KT_FORWARD(kt_relu6, kt_relu6_of)
