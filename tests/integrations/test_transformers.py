"""A tiny training with Hugging Face's own Trainer, of a plain module and of a model of theirs."""

import warnings

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from kilotune.errors import RunError
from kilotune.memory.measure import saved_bytes

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    from kilotune.integrations.transformers import RedrawCallback, SparseModel

# Remarks of Trainer and accelerate about the machine.
pytestmark = pytest.mark.filterwarnings("ignore")

X = torch.randn(12, 3, 16, 16, generator=torch.Generator().manual_seed(1))
Y = torch.arange(12) % 4
DATA = [{"pixel_values": x, "labels": y} for x, y in zip(X, Y, strict=True)]


IDS = torch.where(torch.arange(6) < 4 + Y[:, None] % 2, 5 + Y[:, None], 1)  # padded with token 1
TEXTS = [{"input_ids": x, "labels": y} for x, y in zip(IDS, Y, strict=True)]


def trainer_data(sparse) -> list[dict[str, torch.Tensor]]:
    return TEXTS if sparse.main_input_name == "input_ids" else DATA


class Watch(transformers.TrainerCallback):
    """Compares at each step what the optimiser holds with what is live, and the bytes with the ledger."""

    def __init__(self, sparse):
        self.sparse, self.plans = sparse, []

    def on_step_begin(self, args, state, control, optimizer=None, **rest):
        step = self.sparse.step
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in step.parameters()}
        x = next(iter(trainer_data(self.sparse)[0].values()))[None].clone()
        assert saved_bytes(step, x, Y[:1].clone()) == self.sparse.redrawing.figures().saved_bytes
        self.plans.append(step.plan)


def train(model, tmp_path, example=X[:1], **fields):
    sparse = SparseModel(model, example, **{"budget": 9000, "ledger": "selection", **fields})
    watch = Watch(sparse)
    arguments = transformers.TrainingArguments(
        tmp_path, num_train_epochs=3, per_device_train_batch_size=2, gradient_accumulation_steps=2, learning_rate=1e-2,
        save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    trainer = transformers.Trainer(
        sparse, arguments, train_dataset=trainer_data(sparse), callbacks=[RedrawCallback(sparse), watch]
    )
    trainer.train()
    return watch, trainer


def plain_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, padding=1), nn.ReLU(), nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
    )  # fmt: skip


def test_a_plain_module_trains_and_is_redrawn_each_epoch(tmp_path):
    model = plain_network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    watch, trainer = train(model, tmp_path)
    assert len(watch.plans) == 9
    assert [watch.plans[i] is watch.plans[i - 1] for i in range(1, 9)] == [
        True,
        True,
        False,
        True,
        True,
        False,
        True,
        True,
    ]
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(before[name], tensor)}
    trained = {chosen.layer for plan in watch.plans for chosen in plan.channels}
    assert changed == {f"{layer}.weight" for layer in trained} | {"6.weight", "6.bias"}
    logged = [
        entry["kilotune_worst_selection_elements"]
        for entry in trainer.state.log_history
        if "kilotune_saved_bytes" in entry
    ]
    assert len(logged) == 3
    assert max(logged) * 4 <= 9000


def test_redraws_every_two_steps(tmp_path):
    watch, _ = train(plain_network(), tmp_path, policy="trady", redraw=2)
    drawn = [i for i in range(1, 9) if watch.plans[i] is not watch.plans[i - 1]]
    assert drawn == [2, 3, 5, 6, 8]


def test_a_model_of_theirs(tmp_path):
    torch.manual_seed(0)
    configuration = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic", num_labels=4
    )
    model = transformers.ResNetForImageClassification(configuration)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    watch, _ = train(model, tmp_path)
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(before[name], tensor)}
    trained = {chosen.layer.removeprefix("model.") for plan in watch.plans for chosen in plan.channels}
    assert trained
    assert changed <= {f"{layer}.weight" for layer in trained} | {"classifier.1.weight", "classifier.1.bias"}
    assert "classifier.1.weight" in changed


def test_a_text_model_of_theirs_is_shown_its_padding(tmp_path):
    torch.manual_seed(0)
    configuration = transformers.RobertaConfig(
        vocab_size=12, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=12, num_labels=4, pad_token_id=1, hidden_dropout_prob=0.0,
    )  # fmt: skip
    model = transformers.RobertaForSequenceClassification(configuration).eval()
    watch, trainer = train(model, tmp_path, IDS[:1], budget=2**20)
    assert watch.plans
    step = watch.sparse.step.eval()
    with torch.no_grad():
        expected = model(IDS, attention_mask=IDS.ne(1)).logits
        assert torch.allclose(step(IDS), expected, atol=1e-5)
        assert not torch.allclose(expected, model(IDS).logits, atol=1e-3)
    losses = [trainer.evaluate(TEXTS)["eval_loss"]]
    assert losses[0] < torch.log(torch.tensor(4.0))


def test_what_trainer_saves_is_the_whole_model_under_its_own_names(tmp_path):
    torch.manual_seed(0)
    configuration = transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 12], depths=[1, 1], layer_type="basic", num_labels=4
    )
    model = transformers.ResNetForImageClassification(configuration)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    sparse = SparseModel(model, X[:1], budget=9000, ledger="selection")
    arguments = transformers.TrainingArguments(
        tmp_path, num_train_epochs=2, per_device_train_batch_size=6, learning_rate=1e-2, save_strategy="epoch",
        report_to=[], use_cpu=True, disable_tqdm=True, logging_strategy="no",
    )  # fmt: skip
    trainer = transformers.Trainer(sparse, arguments, train_dataset=DATA, callbacks=[RedrawCallback(sparse)])
    trainer.train()
    saved = [load_file(tmp_path / f"checkpoint-{steps}" / "model.safetensors") for steps in (2, 4)]
    assert saved[0].keys() == saved[1].keys() == before.keys()
    assert all(torch.equal(saved[1][name], tensor) for name, tensor in model.state_dict().items())
    changed = [{name for name, tensor in one.items() if not torch.equal(before[name], tensor)} for one in saved]
    assert "classifier.1.weight" in changed[0]
    assert changed[1] >= changed[0]
    with pytest.raises(RunError, match="without resume_from_checkpoint"):
        trainer.train(resume_from_checkpoint=str(tmp_path / "checkpoint-2"))
