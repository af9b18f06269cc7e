#include "kt_elementwise.h"
#include "kt_kernels.h"

#define F(v) (v > 0.0f ? v : 0.0f)
#define PASSES(u) (u > 0.0f)

KT_FORWARD_MASK(kt_relu_mask, F, PASSES)
