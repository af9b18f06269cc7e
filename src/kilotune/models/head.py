"""The classifier of any network: where it is, and how it is replaced."""

import torch
from torch import nn
from torch.nn.utils import skip_init

from kilotune.errors import ModelError


def find_head(model: nn.Module) -> tuple[str, nn.Linear] | None:
    """Name and module of the classifier: the last linear layer of the model, None if there is none."""
    linears = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return linears[-1] if linears else None


def replace_head(model: nn.Module, classes: int, generator: torch.Generator | None = None) -> None:
    """Puts a new classifier of ``classes`` outputs into the model: weights N(0, 0.01), biases 0.

    Raises ModelError if the model has no linear layer that could be the old one.
    """
    found = find_head(model)
    if found is None:
        raise ModelError(
            f"{type(model).__name__} has no linear layer to turn into a classifier of {classes} classes; "
            "let its constructor take the number of classes"
        )
    name, old = found
    # Without the constructor's own initialisation, which would draw from the global generator.
    head = skip_init(nn.Linear, old.in_features, classes, bias=old.bias is not None)
    nn.init.normal_(head.weight, 0, 0.01, generator=generator)
    if old.bias is not None:
        nn.init.zeros_(head.bias)
    model.set_submodule(name, head)
