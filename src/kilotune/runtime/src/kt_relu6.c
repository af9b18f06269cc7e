#include "kt_elementwise.h"
#include "kt_kernels.h"

#define F(v) (v > 0.0f ? (v < 6.0f ? v : 6.0f) : 0.0f)

KT_FORWARD(kt_relu6, F)
