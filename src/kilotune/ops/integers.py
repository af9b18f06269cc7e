"""Arithmetic on token ids and masks: what networks do with them before the first float. No gradient passes."""

from collections.abc import Callable

import torch
from torch import Tensor

# From the operands and the number that the operation names: a second operand, or an axis.
FUNCTIONS: dict[str, Callable[[list[Tensor], int], Tensor]] = {
    "add": lambda x, number: x[0] + (x[1] if len(x) > 1 else number),
    "subtract": lambda x, number: x[0] - (x[1] if len(x) > 1 else number),
    "multiply": lambda x, number: x[0] * (x[1] if len(x) > 1 else number),
    "equal": lambda x, number: x[0].eq(x[1] if len(x) > 1 else number),
    "not_equal": lambda x, number: x[0].ne(x[1] if len(x) > 1 else number),
    "and": lambda x, number: x[0].bool() & (x[1].bool() if len(x) > 1 else bool(number)),
    "running_sum": lambda x, axis: x[0].cumsum(axis),
    "gather": lambda x, axis: x[0].gather(axis, x[1]),
    "to_integer": lambda x, _: x[0].long(),
    "to_float": lambda x, _: x[0].to(torch.get_default_dtype()),
}
