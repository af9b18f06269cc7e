#include "kt_elementwise.h"
#include "kt_kernels.h"

#define CLIPPED(t) (t > 0.0f ? (t < 6.0f ? t : 6.0f) : 0.0f)
#define F(v) (CLIPPED((v + 3.0f)) / 6.0f)
#define PASSES(u) (u > 0.0f && u < 1.0f)

KT_FORWARD_MASK(kt_hardsigmoid_mask, F, PASSES)
