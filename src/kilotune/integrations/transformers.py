"""A model and a callback for the ``Trainer`` of Hugging Face: ``pip install kilotune[transformers]``."""

from typing import Any

import torch
from msgspec import structs
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from kilotune.errors import RunError
from kilotune.integrations.redrawing import Redrawing


class SparseModel(nn.Module):
    """A classifier of images or texts under a memory budget, as ``Trainer`` wants it: keyword arguments in, loss and logits out.

        sparse = SparseModel(model, example, budget="256KiB", optimizer="adamw")
        Trainer(sparse, arguments, train_dataset=data, callbacks=[RedrawCallback(sparse)]).train()

    model: a model of transformers, whose layers are then called ``model.…`` in plans, or any module (n, c, h, w) or (n, t)
    -> (n, classes). Texts are token ids padded to one length; a model of transformers with a padding token is shown which
    tokens those are, so that no ``attention_mask`` is needed. The model is on the device where it is to be trained. It holds
    the trained weights when training ends. What Trainer saves meanwhile is the whole model under its own names; to go on
    from there, load it into the model and train anew.
    fields: as for ``Redrawing``; ``optimizer`` names the one that Trainer will use, by default "adamw" as there.
    """

    def __init__(self, model: nn.Module, example: Tensor, budget: str | int, **fields: Any):
        super().__init__()
        network = _Logits(model) if isinstance(model, PreTrainedModel) else model
        self.main_input_name = "pixel_values" if example.is_floating_point() else "input_ids"
        self.redrawing = Redrawing(network, example, **{"budget": budget, "optimizer": "adamw", **fields})
        self.step = self.redrawing.step

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:  # type: ignore[override]
        """That of the whole model with what was trained so far, not that of the live slices."""
        network = self.step.sync()
        whole = network.model if isinstance(network, _Logits) else network
        return whole.state_dict(*args, **options)

    def load_state_dict(self, *args: Any, **options: Any) -> Any:
        """Raises RunError: slices and redraws of another run cannot be taken up."""
        raise RunError(
            "a SparseModel cannot go on from a checkpoint of Trainer; load model.safetensors of the checkpoint into your "
            "model, make a SparseModel of it, and train without resume_from_checkpoint"
        )

    def forward(
        self, pixel_values: Tensor | None = None, labels: Tensor | None = None, input_ids: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Logits (n, classes) of images or texts and, with ``labels`` (n,), their mean cross-entropy."""
        logits = self.step(pixel_values if input_ids is None else input_ids)
        return {"logits": logits} if labels is None else {"loss": cross_entropy(logits, labels), "logits": logits}


class RedrawCallback(TrainerCallback):
    """Redraws the plan of a ``SparseModel`` as its policy wants, and adds the bytes to the Trainer's log."""

    def __init__(self, sparse: SparseModel):
        self._redrawing = sparse.redrawing
        self._epoch, self._index = 0, 0

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any
    ) -> None:
        """Count steps from here."""
        self._epoch, self._index = round(state.epoch or 0), 0

    def on_step_begin(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        optimizer: torch.optim.Optimizer | None = None,
        **rest: Any,
    ) -> None:
        """Redraw if it is due."""
        assert optimizer is not None  # Trainer hands it to every callback while training.
        # accelerate wraps the optimiser; what is exchanged must be the parameters of the one inside.
        self._redrawing.before_step(self._epoch, self._index, getattr(optimizer, "optimizer", optimizer))
        self._index += 1

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any
    ) -> None:
        """Observe the gradients, after Trainer's clipping (``max_grad_norm``)."""
        self._redrawing.before_update()

    def on_epoch_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        """Both ledgers of the last plan of the epoch, and the worst case, into ``state.log_history``."""
        figures = structs.asdict(self._redrawing.figures())
        entry = {f"kilotune_{name}": value for name, value in figures.items()}
        state.log_history.append({"epoch": state.epoch, "step": state.global_step, **entry})

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        """Write the trained slices into the user's model."""
        self._redrawing.step.sync()


class _Logits(nn.Module):
    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        if self.model.main_input_name != "input_ids":
            return self.model(x).logits
        padding = getattr(self.model.config, "pad_token_id", None)
        return self.model(x, attention_mask=None if padding is None else x.ne(padding)).logits
