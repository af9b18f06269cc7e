#include "kt_elementwise.h"
#include "kt_kernels.h"
#include "kt_relu6.h"

/* y = min(max(x, 0), 6), and one bit per element, lowest first: whether 0 < y < 6. y may be x. */
#define PASSES(u) (kt_bits(u) - 1u < KT_SIX - 1u)

KT_FORWARD_MASK(kt_relu6_mask, kt_relu6_of, PASSES)
