"""Networks of others and our own, imported as they are, at input sizes that run in a moment."""

import importlib
from collections.abc import Callable
from functools import cache, partial

import torch
from torch import nn

from kilotune import models
from kilotune.graph.capture import capture
from kilotune.graph.node import Graph

N_CLASSES = 10


def _torchvision(name: str, **options: object) -> nn.Module:
    return getattr(importlib.import_module("torchvision.models"), name)(num_classes=N_CLASSES, **options)


def _timm(name: str, **options: object) -> nn.Module:
    return importlib.import_module("timm").create_model(name, num_classes=N_CLASSES, **options)


def _small_vit() -> nn.Module:
    vit = importlib.import_module("torchvision.models.vision_transformer").VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=N_CLASSES
    )
    nn.init.normal_(vit.heads.head.weight, std=0.2)  # zeros otherwise, and no gradient passes
    return vit


def _small_swin() -> nn.Module:
    return importlib.import_module("torchvision.models.swin_transformer").SwinTransformer(
        [4, 4], 16, [2, 2], [2, 4], [4, 4], mlp_ratio=2.0, num_classes=N_CLASSES
    )


NETWORKS: dict[str, tuple[Callable[[], nn.Module], int]] = {
    "mobilenet_v2": (partial(_torchvision, "mobilenet_v2", width_mult=0.35), 32),
    "mobilenet_v3_small": (partial(_torchvision, "mobilenet_v3_small"), 32),
    "efficientnet_b0": (partial(_torchvision, "efficientnet_b0"), 32),
    "resnet18": (partial(_torchvision, "resnet18"), 32),
    "resnet50": (partial(_torchvision, "resnet50"), 32),
    "shufflenet_v2_x0_5": (partial(_torchvision, "shufflenet_v2_x0_5"), 32),
    "squeezenet1_1": (partial(_torchvision, "squeezenet1_1"), 48),
    "vision_transformer": (_small_vit, 32),
    "swin_transformer": (_small_swin, 36),
    "timm mobilenetv3_small_050": (partial(_timm, "mobilenetv3_small_050"), 32),
    "timm efficientnet_lite0": (partial(_timm, "efficientnet_lite0"), 32),
    "timm vit_tiny": (partial(_timm, "vit_tiny_patch16_224", img_size=32, depth=2), 32),
    "kilotune mcunet_in1": (partial(models.create, "mcunet_in1", classes=N_CLASSES), 48),
    "kilotune proxylessnas_w0.3": (partial(models.create, "proxylessnas_w0.3", classes=N_CLASSES), 32),
}


def build_network(name: str) -> nn.Module:
    """The network in eval mode, its batch norm as after training: no statistic is zero or one any more."""
    torch.manual_seed(0)
    model = NETWORKS[name][0]()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.8, 1.2)
            nn.init.normal_(module.bias, 0, 0.1)
    return model.eval()


def input_shape(name: str) -> tuple[int, int, int]:
    """(c, h, w)."""
    side = NETWORKS[name][1]
    return (3, side, side)


@cache
def captured_network(name: str) -> Graph:
    """The captured network; kept, because tracing takes longer than everything else."""
    return capture(build_network(name), torch.zeros(1, *input_shape(name)))


@cache
def captured_published(name: str) -> Graph:
    """A network of the zoo at 128x128 with ten classes, as in the papers."""
    return capture(models.create(name, classes=N_CLASSES), torch.zeros(1, 3, 128, 128))
