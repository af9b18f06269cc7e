"""A tiny training with Lightning's own Trainer."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from kilotune.errors import RunError
from kilotune.memory.measure import saved_bytes

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pl = pytest.importorskip("lightning.pytorch")
    from kilotune.integrations.lightning import SparseUpdate

# Lightning's own remarks: few workers, few batches, no logger folder.
pytestmark = pytest.mark.filterwarnings("ignore")

X = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(1))
Y = torch.arange(12) % 4


class Classifier(pl.LightningModule):
    """A user's module: a network, a loss, an optimiser; it counts what the callback does to it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12), nn.ReLU(),
            nn.Conv2d(12, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4),
        )  # fmt: skip
        self.plans, self.bytes = [], []

    def training_step(self, batch, index):
        x, y = batch
        self.plans.append(self.net.plan)
        if index == 0:
            self.bytes.append(saved_bytes(self.net, x[:1].clone(), y[:1].clone()))
        return cross_entropy(self.net(x), y)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Watch(pl.Callback):
    """Compares at each batch what the optimiser holds with what is live."""

    def __init__(self, sparse):
        self.sparse, self.figures, self.logged = sparse, [], {}

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        (optimizer,) = trainer.optimizers
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        assert held == {id(p) for p in pl_module.net.parameters()}
        if batch_idx == 0:
            self.figures.append(self.sparse.redrawing.figures())

    def on_fit_end(self, trainer, pl_module):
        self.logged = dict(trainer.logged_metrics)


def fit(tmp_path, **settings):
    module = Classifier()
    sparse = SparseUpdate("net", X[:1], budget=5000, ledger="selection", policy="medyate", optimizer="momentum")
    watch = Watch(sparse)
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
        default_root_dir=tmp_path, callbacks=[sparse, watch], **settings,
    )  # fmt: skip
    before = {name: tensor.clone() for name, tensor in module.net.state_dict().items()}
    network = module.net
    trainer.fit(module, DataLoader(TensorDataset(X, Y), batch_size=4))
    return module, network, before, watch, trainer


def test_it_trains_redraws_and_gives_the_network_back(tmp_path):
    module, network, before, watch, _ = fit(tmp_path, enable_checkpointing=False)
    assert module.net is network
    assert len(module.plans) == 9
    assert len(set(module.plans)) == 3
    assert all(module.plans[i] is module.plans[i - i % 3] for i in range(9))
    changed = {name for name, tensor in network.state_dict().items() if not torch.equal(before[name], tensor)}
    assert "7.weight" in changed
    assert changed <= {"0.weight", "3.weight", "7.weight", "7.bias"}
    assert module.bytes == [figures.saved_bytes for figures in watch.figures]
    assert watch.logged["kilotune/saved_bytes"] == module.bytes[-1]
    assert watch.logged["kilotune/worst_selection_elements"] * 4 <= 5000


def test_redraws_wait_for_accumulated_gradients(tmp_path):
    module, *_ = fit(tmp_path, enable_checkpointing=False, accumulate_grad_batches=3)
    assert len(set(module.plans)) == 3


def test_a_checkpoint_is_the_ordinary_modules(tmp_path):
    *_, network, _, _, trainer = fit(tmp_path, enable_checkpointing=True)
    saved = torch.load(trainer.checkpoint_callback.best_model_path, weights_only=True)["state_dict"]
    assert set(saved) == set(Classifier().state_dict())
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(saved[f"net.{name}"], tensor, rtol=0, atol=0)


def test_a_run_goes_on_from_a_checkpoint_as_if_it_had_never_stopped(tmp_path):
    def trained(folder, epochs, **more):
        module = Classifier()
        sparse = SparseUpdate("net", X[:1], budget=5000, ledger="selection", policy="medyate", optimizer="momentum")
        saving = pl.callbacks.ModelCheckpoint(tmp_path / folder, every_n_epochs=1, save_top_k=-1)
        trainer = pl.Trainer(
            max_epochs=epochs, accelerator="cpu", logger=False, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[sparse, saving],
        )  # fmt: skip
        trainer.fit(module, DataLoader(TensorDataset(X, Y), batch_size=4), **more)
        return module, saving.best_model_path

    whole, _ = trained("whole", 4)
    _, checkpoint = trained("half", 2)
    again, _ = trained("again", 4, ckpt_path=checkpoint)
    assert again.plans == whole.plans[6:]
    for name, tensor in whole.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=0, atol=0)


def test_a_submodule_that_is_not_there(tmp_path):
    trainer = pl.Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        callbacks=[SparseUpdate("body", X[:1], budget=5000)],
    )
    with pytest.raises(RunError, match="no submodule 'body'"):
        trainer.fit(Classifier(), DataLoader(TensorDataset(X, Y), batch_size=4))
