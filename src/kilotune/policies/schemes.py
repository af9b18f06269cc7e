"""The fifteen schemes shipped with Sparse Update (arXiv 2206.15472, mit-han-lab/tiny-training), as data."""

from typing import NamedTuple


class Scheme(NamedTuple):
    """n_bias: the biases of this many last convolutions are trained. ratios: share of input channels trained, by index
    of the convolution (0 is the stem; the classifier and a feature-mix convolution do not count)."""

    n_bias: int
    ratios: dict[int, float]


SCHEMES: dict[str, dict[str, Scheme]] = {
    "mobilenet_v2_w0.35": {
        "49kb": Scheme(16, {36: 1, 39: 1, 40: 0, 41: 1 / 4, 42: 1 / 8, 45: 1 / 8, 48: 1 / 8, 49: 1 / 8}),
        "73kb": Scheme(20, {32: 1 / 8, 33: 1 / 2, 36: 1 / 2, 39: 1, 41: 1 / 4, 42: 1 / 8, 45: 1 / 8, 48: 1}),
        "99kb": Scheme(25, {27: 1, 30: 1, 33: 1, 36: 1, 39: 1, 42: 1 / 8, 45: 1 / 2, 48: 1}),
        "123kb": Scheme(31, {27: 1, 30: 1, 33: 1, 36: 1, 39: 1, 42: 1 / 2, 45: 1, 48: 1}),
        "138kb": Scheme(34, {27: 1, 30: 1, 33: 1, 36: 1, 39: 1, 42: 1, 45: 1, 48: 1}),
    },
    "mcunet_in1": {
        "49kb": Scheme(20, {23: 0, 24: 1 / 4, 27: 1 / 2, 30: 1 / 2, 33: 0, 39: 0}),
        "74kb": Scheme(21, {21: 1, 23: 0, 24: 1, 26: 0, 27: 1 / 2, 30: 1}),
        "99kb": Scheme(22, {21: 1, 24: 1, 27: 1, 30: 1, 36: 1 / 8, 39: 1 / 4}),
        "124kb": Scheme(24, {21: 1 / 4, 24: 1, 27: 1, 30: 1, 33: 1 / 2, 39: 1 / 2}),
        "148kb": Scheme(23, {21: 1, 24: 1, 27: 1, 30: 1, 36: 1, 39: 1 / 2}),
    },
    "proxylessnas_w0.3": {
        "49kb": Scheme(21, {39: 1 / 4, 42: 1, 44: 0, 45: 1, 50: 0, 51: 1 / 8, 54: 1 / 4, 57: 1 / 4}),
        "74kb": Scheme(28, {33: 1 / 2, 36: 1 / 4, 39: 1, 42: 1, 45: 1, 51: 1 / 2, 54: 1 / 4, 57: 1 / 2}),
        "98kb": Scheme(25, {36: 1, 39: 1 / 2, 42: 1, 45: 1, 48: 1 / 4, 51: 1 / 2, 54: 1, 57: 1}),
        "120kb": Scheme(32, {36: 1, 39: 1, 42: 1, 45: 1, 48: 1 / 2, 51: 1, 54: 1, 57: 1}),
        "148kb": Scheme(45, {36: 1, 39: 1, 42: 1, 45: 1, 48: 1, 51: 1, 54: 1, 57: 1}),
    },
}
