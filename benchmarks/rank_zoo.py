"""Measures the layer rankings shipped in ``src/kilotune/policies/rankings``: a short dense fine-tuning of each network.

Usage: python benchmarks/rank_zoo.py [NAME ...]   (needs KILOTUNE_DATA; about a minute a network on two cores)
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import torch

from kilotune import models, rank
from kilotune.data import sets
from kilotune.policies.ranking import RANKINGS

# File name -> network, weights, side of the input.
NETWORKS = {
    "mobilenet_v2_w0.35_nohead": ("mobilenet_v2_w0.35_nohead", "mbv2_w0.35_int8", 128),
    "mobilenet_v2_w0.35_mix": ("mobilenet_v2_w0.35_mix", "mbv2_w0.35_int8", 128),
    "mobilenet_v2_w0.35": ("mobilenet_v2_w0.35_same", "mbv2_w0.35_backbone", 128),
    "mcunet_in1": ("mcunet_in1", "mcunet_5fps_int8", 128),
    "mcunet_in2": ("mcunet_in2", "mcunet_in2", 128),
    "mcunet_in3": ("mcunet_in3", "mcunet_in3", 128),
    "mcunet_in4": ("mcunet_in4", "mcunet_in4_int8", 96),
    "proxylessnas_w0.3": ("proxylessnas_w0.3", "proxyless_w0.3", 128),
    "proxylessnas_w0.3_nomix": ("proxylessnas_w0.3_nomix", "proxyless_w0.3_int8", 128),
    "mobilenet_v2": ("mobilenet_v2_same", "mbv2_w1.0_int8", 96),
}


def pretrained(network: str, weights: str) -> torch.nn.Module:
    """The network with its weights; the feature-mix variant takes those of the network without it for the layers both have."""
    if not network.endswith("_mix"):
        return models.load(network, weights, classes=10).model
    source = models.load(network.replace("_mix", "_nohead"), weights, classes=10).model.state_dict()
    model = models.create(network, classes=10, folded=True)
    target = model.state_dict()
    shared = {name: tensor for name, tensor in source.items() if name in target and target[name].shape == tensor.shape}
    model.load_state_dict(target | shared)
    return model


def main(names: list[str]) -> None:
    """Rank the networks called ``names``, all of them if there are none."""
    train = sets.load("cifar10", train_limit=2000).train
    for name in names or NETWORKS:
        network, weights, side = NETWORKS[name]
        torch.manual_seed(0)
        # Without batch norm (int8 checkpoints have it folded) dense training diverges at larger rates.
        lr = 0.005 if weights.endswith("int8") else 0.03
        example = torch.zeros(1, 3, side, side)
        ranking = rank(
            pretrained(network, weights),
            example,
            train,
            "cifar10",
            epochs=3,
            warmup_epochs=1,
            lr=lr,
            channels_last=True,
        )
        RANKINGS.mkdir(exist_ok=True)
        replace(ranking, network=network).save(Path(RANKINGS) / f"{name}.json")
        print(f"{name}: {len(ranking.layers)} layers ranked", flush=True)


if __name__ == "__main__":
    os.environ.setdefault("KILOTUNE_DATA", str(Path(__file__).parents[2] / "shared" / "data"))
    main(sys.argv[1:])
