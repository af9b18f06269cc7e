"""A small ViT, Swin and BERT-class encoder, end to end: gradients as dense autograd's, and bytes as predicted."""

import warnings
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kilotune.graph.backward import StepGraph
from kilotune.graph.capture import capture, example_of
from kilotune.memory.ledger import ledger
from kilotune.memory.lifetime import Timeline
from kilotune.memory.measure import saved_by_layer, saved_bytes
from kilotune.ops.prepare import prepare
from kilotune.train.loop import FineTuner
from kilotune.update_plan import ChannelSet, UpdatePlan
from tests.oracles.dense import FLOAT64_TOLERANCE, dense_gradients, everything, expected_gradients, relative_error
from tests.oracles.networks import randomise

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("timm")

pytestmark = pytest.mark.filterwarnings("ignore")

N_CLASSES, N_TOKENS, VOCABULARY, PADDING = 3, 8, 40, 1
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
    "pad_token_id": PADDING,
    "num_labels": N_CLASSES,
}
IMAGE_SIZES = {"image_size": 32, "num_labels": N_CLASSES}


class Padded(nn.Module):
    """An encoder that looks at no padding: its attention mask is made from the token ids."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, ids):
        return self.model(input_ids=ids, attention_mask=ids.ne(PADDING)).logits


class Logits(nn.Module):
    """A model of transformers that gives a tensor instead of a record."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x).logits


def bert():
    return transformers.BertForSequenceClassification(transformers.BertConfig(**SIZES))


def roberta():
    return transformers.RobertaForSequenceClassification(transformers.RobertaConfig(**SIZES))


def swin():
    sizes = {"embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4, "patch_size": 4}
    return transformers.SwinForImageClassification(transformers.SwinConfig(**IMAGE_SIZES, **sizes))


def vit():
    sizes = {name: SIZES[name] for name in SIZES if name.startswith(("hidden", "num_h", "num_a", "inter"))}
    return transformers.ViTForImageClassification(transformers.ViTConfig(**IMAGE_SIZES, **sizes, patch_size=8))


def torch_encoder():
    layer = nn.TransformerEncoderLayer(16, 2, 32, activation="gelu", batch_first=True, norm_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    return nn.Sequential(nn.Embedding(VOCABULARY, 16), encoder, nn.Flatten(), nn.Linear(16 * N_TOKENS, N_CLASSES))


ENCODERS = {
    "vit": lambda: Logits(vit()),
    "swin": lambda: Logits(swin()),
    "bert": lambda: Logits(bert()),
    "bert with padding": lambda: Padded(bert()),
    "roberta": lambda: Logits(roberta()),
    "roberta with padding": lambda: Padded(roberta()),
    "nn.TransformerEncoder": torch_encoder,
}


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    return randomise(ENCODERS[name]()).eval()


def examples(name: str, n: int = 3, dtype=torch.float32) -> tuple[torch.Tensor, torch.Tensor]:
    """Images, or sentences of different lengths; labels."""
    generator = torch.Generator().manual_seed(n)
    y = torch.arange(n) % N_CLASSES
    if name in ("vit", "swin"):
        return torch.randn(n, 3, 32, 32, generator=generator).to(dtype), y
    ids = torch.randint(2, VOCABULARY, (n, N_TOKENS), generator=generator)
    return ids.masked_fill(torch.arange(N_TOKENS) > 4 + y[:, None], PADDING), y


def lesson(name: str, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images or texts that show their class: by their brightness, by every second token."""
    x, y = examples(name, n)
    if x.is_floating_point():
        return x + 2 * y[:, None, None, None] - 2, y
    return torch.where((torch.arange(N_TOKENS) % 2 == 0) & x.ne(PADDING), 3 + y[:, None], x), y


@cache
def captured(name: str):
    return capture(build(name), examples(name)[0])


def every_third(graph) -> UpdatePlan:
    """Every third channel of every other layer, neurons of one, some biases."""
    sets = [ChannelSet(layer.name, "in", tuple(range(0, layer.in_channels, 3))) for layer in graph.body[::2]]
    sets[-2] = ChannelSet(sets[-2].layer, "out", (0, 5))
    return UpdatePlan(tuple(sets), tuple(layer.name for layer in graph.body[-5:] if layer.has_bias))


@pytest.mark.parametrize("name", ENCODERS)
def test_gradients(name):
    model, graph = build(name).double(), captured(name)
    x, y = examples(name, dtype=torch.float64)
    for plan in (every_third(graph), everything(graph), everything(graph, "out")):
        expected = expected_gradients(graph, plan, dense_gradients(model, x, y))
        step = prepare(model, None, plan, graph, dtype=torch.float64).eval()
        logits = step(x)
        assert relative_error(logits.detach(), model(x).detach()) < FLOAT64_TOLERANCE
        F.cross_entropy(logits, y).backward()
        largest = max(float(gradient.abs().max()) for gradient in expected.values())
        assert largest > 0
        for key, parameter in step.live.items():
            assert float((parameter.grad - expected[key]).abs().max()) < FLOAT64_TOLERANCE * largest, key


@pytest.mark.parametrize("name", ENCODERS)
def test_kept_bytes_are_those_of_the_ledger(name):
    model, graph = build(name), captured(name)
    for plan in (UpdatePlan(), every_third(graph), everything(graph)):
        step = prepare(model, None, plan, graph)
        for n in (1, 3):
            report = ledger(graph, plan, batch=n)
            assert saved_by_layer(step, *examples(name, n)) == report.by_layer
            assert saved_bytes(step, *examples(name, n)) == report.saved_bytes


@pytest.mark.parametrize("name", ["vit", "swin", "bert with padding"])
def test_fine_tuning_under_a_budget(name):
    """The loss falls, no draw is above the budget, and the bytes kept are those of the ledger, draw after draw."""
    x, y = lesson(name, 24)
    budget = {"vit": 110_000, "swin": 700_000, "bert with padding": 60_000}[name]
    fields = {"warmup_epochs": 1, "optimizer": "adam", "lr": 0.01, "device": "cpu", "channels_last": False}
    tuner = FineTuner(build(name), x[:1], budget=budget, policy="medyate", seed=1, **fields)
    before = tuner.evaluate([(x, y)])
    record = tuner.fit([(x[i : i + 8], y[i : i + 8]) for i in (0, 8, 16)], [(x, y)], epochs=6, quiet=True)
    assert record.epochs[-1].val_loss < 0.7 * before.loss
    assert record.ledger.worst_total_bytes <= budget
    assert len({epoch.channels for epoch in record.epochs}) > 1
    assert (
        saved_bytes(tuner.step, x[:4], y[:4].clone()) == ledger(tuner.graph, tuner.selection.plan, batch=4).saved_bytes
    )


def test_the_mask_of_padding_matters():
    """Else the test of gradients would not see whether it is there."""
    x, _ = examples("bert")
    plain, masked = (build(name)(x) for name in ("bert", "bert with padding"))
    assert relative_error(masked, plain) > 0.01


def test_what_no_input_changes_has_no_buffer():
    graph = captured("swin")
    tables = [node for node in graph.nodes if node.op.kind == "lookup"]
    assert len(tables) == 4
    assert {node.name for node in tables} <= graph.constants
    buffers = Timeline(StepGraph.of(graph, everything(graph))).buffers
    assert not {buffer.name for buffer in buffers} & graph.constants


PUBLISHED = {
    "bert": (
        lambda: transformers.BertForSequenceClassification(transformers.BertConfig()), (128,),
        (85_524_480, 10_617_600, 83_712), 96_225_792,
    ),
    "roberta": (
        lambda: transformers.RobertaForSequenceClassification(transformers.RobertaConfig()), (128,),
        (85_524_480, 10_617_600, 83_712), 96_225_792,
    ),
    "swin_t": (
        lambda: pytest.importorskip("torchvision.models").swin_t(), (3, 128, 128),
        (27_431_424, 4_418_688, 39_840), 31_889_952,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_totals(name):
    """TraDy's totals of transformers, term by term: weights, inputs at 128 tokens or 128x128 pixels, and biases."""
    make, shape, terms, published = PUBLISHED[name]
    graph = capture(make(), example_of(shape))
    weights = sum(layer.weight_elements for layer in graph.body)
    inputs = sum(layer.input_elements for layer in graph.body)
    biases = sum(layer.out_channels for layer in graph.body if layer.has_bias)
    assert (weights, inputs, biases) == terms
    assert graph.selection_total_elements == weights + inputs
    assert sum(terms) == published
