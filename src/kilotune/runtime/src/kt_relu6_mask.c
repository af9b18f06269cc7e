#include "kt_elementwise.h"
#include "kt_kernels.h"
#include "kt_relu6.h"

#define PASSES(u) (u > 0.0f && u < 6.0f)

KT_FORWARD_MASK(kt_relu6_mask, kt_relu6_of, PASSES)
