"""The zoo: networks by name, the user's own by ``module:callable``, and their pretrained weights."""

import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import Any

import torch
from torch import nn

from kilotune.errors import ModelError, WeightsError
from kilotune.models.digitnet import digitnet
from kilotune.models.head import find_head, replace_head
from kilotune.models.inverted import Architecture
from kilotune.models.mcunet import mcunet
from kilotune.models.mobilenet_v2 import mobilenet_v2, parse_name, published_names
from kilotune.models.proxylessnas import proxylessnas
from kilotune.models.pruned import narrow
from kilotune.models.resnet import resnet
from kilotune.models.weights import Checkpoint, load_into, read

# Every constructor takes ``classes`` and ``folded``. MobileNetV2 has more names: see ``mobilenet_v2.parse_name``.
MODELS: dict[str, Callable[..., nn.Module]] = {
    "mobilenet_v2": mobilenet_v2,
    "mcunet_in1": partial(mcunet, "in1"),
    "mcunet_5fps": partial(mcunet, "in1"),
    "mcunet_in2": partial(mcunet, "in2"),
    "mcunet_in3": partial(mcunet, "in3"),
    "mcunet_in4": partial(mcunet, "in4"),
    "proxylessnas_w0.3": partial(proxylessnas, mix=True),
    "proxylessnas_w0.3_nomix": partial(proxylessnas, mix=False),
    "digitnet": digitnet,
    "resnet18": partial(resnet, 18),
    "resnet50": partial(resnet, 50),
}


_CLASSES_ARGUMENTS = {"classes", "num_classes"}


@dataclass(frozen=True)
class Loaded:
    """A model and what is known about it.

    new_head: the classifier is freshly initialised, not from the checkpoint. folded: convolutions have biases and no
    batch norm. source: where the weights come from. resolution: input size the weights were trained at, if known.
    mean, std: of input pixels in [0, 1]; 0.5 and 0.5 where the checkpoint does not say.
    """

    model: nn.Module
    folded: bool
    new_head: bool
    source: str
    resolution: int | None = None
    mean: float = 0.5
    std: float = 0.5


def create(name: str, classes: int | None = None, folded: bool = False) -> nn.Module:
    """The network called ``name`` with random weights from the global generator.

    name: a key of ``MODELS``, ``mobilenet_v2[_w<width>][_mix|_nohead][_same]``, or the user's ``module:callable``,
    which is looked for in the current folder too. A callable with an argument ``classes`` or ``num_classes`` is given
    the number; otherwise its last linear layer is replaced, if it has another number of outputs.
    classes: None for the network's own number, which is 1000 in the zoo.
    folded: zoo networks with convolution biases instead of batch norms.
    Raises ModelError if there is no such network.
    """
    if ":" in name:
        return _create_users(name, classes)
    options: dict[str, Any] = {"folded": folded} if classes is None else {"folded": folded, "classes": classes}
    if name in MODELS:
        return MODELS[name](**options)
    variant = parse_name(name)
    if variant is None:
        raise ModelError(
            f"there is no model {name!r}; choose {', '.join(MODELS)}, mobilenet_v2_w<width>, either with _mix, _nohead "
            "or _same behind it, or give your own as module:callable"
        )
    return mobilenet_v2(**variant, **options)


def load(name: str, weights: str | None = None, classes: int | None = None, seed: int = 0) -> Loaded:
    """The network called ``name`` (see ``create``) with weights from a file or an entry of ``models.json``.

    classes: None keeps the checkpoint's classifier. Where it has another number of classes, or no classifier at all, a
    new one is drawn from ``seed``, and the result says so. Without weights the whole network is drawn from ``seed``.
    The file of a pruned network makes the layers as narrow as its tensors.
    The global generator stays as it is. Raises ModelError for the name, WeightsError for the weights.
    """
    checkpoint = None if weights is None else read(weights)
    folded = checkpoint is not None and checkpoint.folded and ":" not in name
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = create(name, classes, folded)
    if checkpoint is not None and checkpoint.pruned is not None:
        checkpoint.pruned.attach(narrow(model, checkpoint.tensors))
    with_head = _settle_head(model, checkpoint, classes, seed)
    if checkpoint is None:
        return Loaded(model, folded, True, f"random weights from seed {seed}")
    _check_architecture(name, model, checkpoint)
    load_into(model, checkpoint, with_head)
    known = checkpoint.entry or checkpoint.pruned
    if known is None:
        return Loaded(model, folded, not with_head, checkpoint.source)
    return Loaded(model, folded, not with_head, checkpoint.source, known.resolution, known.mean, known.std)


def _settle_head(model: nn.Module, checkpoint: Checkpoint | None, classes: int | None, seed: int) -> bool:
    """Gives the model the right number of classes; returns whether the checkpoint's classifier is to be loaded."""
    head = find_head(model)
    if head is None:
        return True
    if checkpoint is None:  # a user's model may come with a classifier of its own; create() gave it the right size
        return True
    found = checkpoint.n_classes(head[0])
    wanted = classes or found or head[1].out_features
    if found != wanted or wanted != head[1].out_features:
        replace_head(model, wanted, torch.Generator().manual_seed(seed))
    return found == wanted


def _check_architecture(name: str, model: nn.Module, checkpoint: Checkpoint) -> None:
    if checkpoint.entry is None:
        return
    wanted = checkpoint.entry.architecture
    ours = getattr(model, "architecture", None)
    if ours == wanted:
        return
    found = ", ".join(ours.differences(wanted)) if isinstance(ours, Architecture) else "it is another kind of network"
    name_that_fits = _find_name(wanted)
    way_out = f"use the model {name_that_fits}" if name_that_fits else "no model of the zoo fits"
    raise WeightsError(f"the weights {checkpoint.source} do not fit {name}: {found}; {way_out}")


def _find_name(architecture: Architecture) -> str | None:
    # On the meta device, where a network costs no memory and no random numbers.
    with torch.device("meta"):
        for name in chain(MODELS, published_names()):
            if getattr(create(name), "architecture", None) == architecture:
                return name
    return None


def _create_users(name: str, classes: int | None) -> nn.Module:
    module_name, _, attribute = name.partition(":")
    with _importing_from_here():
        try:
            constructor = getattr(importlib.import_module(module_name), attribute)
            takes = inspect.signature(constructor).parameters.keys() & _CLASSES_ARGUMENTS
            options = {} if classes is None else dict.fromkeys(sorted(takes)[:1], classes)
            model = constructor(**options)
        except Exception as error:
            raise ModelError(f"{name!r} cannot be imported and called: {type(error).__name__}: {error}") from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{name!r} returned {type(model).__name__}; it must return a torch.nn.Module")
    head = find_head(model)
    if classes is not None and not takes and (head is None or head[1].out_features != classes):
        replace_head(model, classes)
    return model


@contextmanager
def _importing_from_here() -> Iterator[None]:
    here = os.getcwd()
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
