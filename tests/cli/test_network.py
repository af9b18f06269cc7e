from dataclasses import replace

import pytest
import torch

from kilotune.cli.network import Network, shape_text
from kilotune.data.images import Dataset, Split


def dataset(name: str, side: int) -> Dataset:
    split = Split(torch.zeros(2, 1, side, side, dtype=torch.uint8), torch.arange(2))
    return Dataset(name, split, split, ("a", "b"))


@pytest.fixture
def own(folder) -> Network:
    """The user's network, whose input size nobody knows."""
    return Network.load("cli_network:make", None, 2)


def test_messages_call_the_network_as_the_user_did(own):
    assert own.capture((1, 8, 8)).model == "cli_network:make"


def test_a_network_of_the_users_own_gets_the_images_as_they_are_except_from_a_folder(own, tmp_path):
    assert own.side_for(dataset("data.npz", 20)) == 20
    assert own.side_for(dataset(str(tmp_path), 20)) == 128


def test_weights_with_a_resolution_and_models_of_the_zoo_do_not_follow_the_images(own):
    assert replace(own, loaded=replace(own.loaded, resolution=96)).side_for(dataset("data.npz", 20)) == 96
    assert replace(own, name="mcunet_in1").side_for(dataset("cifar10", 32)) == 128


def test_shapes_are_written_as_they_are_read():
    assert shape_text((3, 64, 32)) == "3x64x32"
