"""A prepared model whose plan is redrawn while somebody else's loop trains it; what all callbacks have in common."""

from typing import Any

import torch
from torch import Tensor, nn

from kilotune.errors import RunError
from kilotune.graph.capture import capture
from kilotune.memory.accounting import OPTIMIZER_SLOTS
from kilotune.ops.prepare import prepare
from kilotune.train.observer import OBSERVERS
from kilotune.train.recipe import Recipe
from kilotune.train.record import LedgerFigures
from kilotune.train.selection import Selection
from kilotune.update_plan import UpdatePlan


class Redrawing:
    """``model``, called with ``example`` (n, c, h, w), prepared for the first plan of a policy, and the plans after it.

    step: the trainable module. fields: of ``Recipe`` that decide the selection (budget, ledger, policy, options, seed,
    redraw, optimizer, optimizer_state); ``optimizer`` names the one that will be used, whose state is in the ledger.
    Raises as ``FineTuner`` does.
    """

    def __init__(self, model: nn.Module, example: Tensor, **fields: Any):
        self.recipe = Recipe.of(**{"optimizer": "sgd", **fields})
        graph = capture(model, example)
        self.selection = Selection(graph, self.recipe)
        if self.selection.observes not in ("nothing", "norms"):
            raise RunError(
                f"policy {self.recipe.policy} looks at training data before it draws, which only kilotune's own loop "
                "gives it; use kilotune.FineTuner, or another policy such as medyate"
            )
        self.step = prepare(model, example, self.selection.plan, graph)
        self._observer = OBSERVERS[self.selection.observes](self.step, self.selection)
        self._optimizer_is_checked = False

    def before_step(self, epoch: int, index: int, optimizer: torch.optim.Optimizer) -> None:
        """Redraw if that is due before optimiser step ``index`` of ``epoch``, both from 0; ``optimizer`` follows.

        Raises RunError if the model was moved to another device, or the optimiser keeps more than the ledger was told.
        """
        self._check_device()
        if optimizer.state and not self._optimizer_is_checked:
            self._check_slots(optimizer)
        if not self.selection.is_due(epoch, index):
            return
        self._observer.after_training()
        self.step.replan(self.selection.redraw(), optimizer, self.recipe.optimizer_state)

    def before_update(self) -> None:
        """Take in the gradients that the optimiser is about to use."""
        self._observer.after_gradient()

    def state(self) -> dict[str, Any]:
        """What ``restore`` needs besides the state of ``step``, as plain JSON data; what was observed is handed over."""
        self._observer.after_training()
        return {"plan": self.selection.plan.to_json(), "selection": self.selection.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken, before there is an optimiser. Raises RunError if it is of another budget."""
        self.selection.restore(UpdatePlan.from_json(state["plan"]), state["selection"])
        self.step.replan(self.selection.plan)

    def figures(self) -> LedgerFigures:
        """Both ledgers of the present plan, and the worst case over all draws."""
        return self.selection.figures()

    def _check_device(self) -> None:
        live = next(iter(self.step.parameters()), None)
        home = next(self.step.model.parameters()).device
        if live is not None and live.device != home:
            raise RunError(
                f"the trained slices are on {live.device}, the model they belong to is on {home}; move the model there "
                "before it is prepared"
            )

    def _check_slots(self, optimizer: torch.optim.Optimizer) -> None:
        """Count what the optimiser really keeps for a trained weight."""
        counts = [
            sum(isinstance(value, Tensor) and value.shape == parameter.shape for value in state.values())
            for parameter, state in optimizer.state.items()
        ]
        told = self.recipe.optimizer if not self.recipe.momentum else "momentum"
        if max(counts) > OPTIMIZER_SLOTS[told]:
            fitting = [name for name, n_slots in OPTIMIZER_SLOTS.items() if n_slots == max(counts)]
            raise RunError(
                f"{type(optimizer).__name__} keeps {max(counts)} numbers for each trained weight, the ledger was told "
                f"optimizer={told!r}, which keeps {OPTIMIZER_SLOTS[told]}; say optimizer={(fitting or ['adam'])[0]!r}"
            )
        self._optimizer_is_checked = True
