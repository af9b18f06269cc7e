#include "kt_elementwise.h"
#include "kt_kernels.h"
#include "kt_smooth.h"

KT_FORWARD(kt_sigmoid, kt_sigmoid_of)
