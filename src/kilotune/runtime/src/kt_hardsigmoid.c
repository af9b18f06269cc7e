#include "kt_elementwise.h"
#include "kt_kernels.h"

#define CLIPPED(t) (t > 0.0f ? (t < 6.0f ? t : 6.0f) : 0.0f)
#define F(v) (CLIPPED((v + 3.0f)) / 6.0f)

KT_FORWARD(kt_hardsigmoid, F)
