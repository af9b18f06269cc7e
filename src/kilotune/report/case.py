"""What the doctor examines: a model, a policy under a budget, and one batch."""

from copy import deepcopy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.modules.batchnorm import _BatchNorm

from kilotune.errors import ShapeError
from kilotune.graph.node import Graph
from kilotune.ops.prepare import Step, prepare
from kilotune.policies.fit import Selector
from kilotune.update_plan import Budget, UpdatePlan


@dataclass(frozen=True)
class Case:
    """What is examined: a model, a policy under a budget, and one batch ``x`` (n, ...), ``y`` (n,), n >= 2."""

    model: nn.Module
    graph: Graph
    selector: Selector
    budget: Budget
    x: Tensor
    y: Tensor
    plan: UpdatePlan

    @classmethod
    def of(cls, model: nn.Module, graph: Graph, selector: Selector, budget: Budget, x: Tensor, y: Tensor) -> "Case":
        """The case with the first plan that ``selector`` draws. Raises ShapeError for fewer than two examples."""
        if len(x) < 2 or len(x) != len(y):
            raise ShapeError(f"doctor needs at least two examples and a label for each, got {len(x)} and {len(y)}")
        return cls(model, graph, selector, budget, x, y, selector.draw())

    def fresh(self, dtype: torch.dtype = torch.float32) -> Step:
        """A copy of the model, prepared for the plan; no check sees what another did."""
        return prepare(deepcopy(self.model), self.x[:1], self.plan, self.graph, dtype).eval()

    def double(self) -> "Case":
        """The same in float64."""
        x = self.x.double() if self.x.is_floating_point() else self.x
        return replace(self, model=deepcopy(self.model).double(), x=x)

    @property
    def n_classes(self) -> int:
        """Number of logits."""
        return self.graph.node[self.graph.output].output.shape[-1]

    def loss(self, step: nn.Module) -> Tensor:
        """Mean cross-entropy of the batch."""
        return cross_entropy(self.logits(step), self.y)

    def logits(self, module: nn.Module) -> Tensor:
        """What ``module`` makes of the batch; models of transformers give it in a record."""
        result = module(self.x)
        return result if isinstance(result, Tensor) else result[0]

    def train_once(self, step: Step, optimizer: torch.optim.Optimizer) -> None:
        """One step of ``optimizer`` on the batch."""
        optimizer.zero_grad()
        self.loss(step).backward()
        optimizer.step()


def random_batch(graph: Graph, n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Gaussian inputs (n, ...) of the captured shape, or token ids, and labels (n,) that go round the classes."""
    shape, generator = (n, *graph.input.shape[1:]), torch.Generator().manual_seed(seed)
    if graph.input.is_float:
        x = torch.randn(shape, generator=generator)
    else:
        x = torch.randint(graph.vocabulary or 1, shape, generator=generator)
    return x, torch.arange(n) % graph.node[graph.output].output.shape[-1]


@torch.no_grad()
def settle(model: nn.Module, x: Tensor) -> int:
    """Give batch norms that have only initial statistics those of ``x`` (n, ...); returns how many there were.

    Through many layers of random weights and no normalisation, nothing of the input would arrive at the output.
    """
    fresh = [m for m in model.modules() if isinstance(m, _BatchNorm) and _is_fresh(m)]
    momenta = [norm.momentum for norm in fresh]
    model.eval()
    for norm in fresh:
        norm.train().momentum = 1.0
    if fresh:
        model(x)
    for norm, momentum in zip(fresh, momenta, strict=True):
        norm.eval().momentum = momentum
    return len(fresh)


def _is_fresh(norm: _BatchNorm) -> bool:
    mean, variance = norm.running_mean, norm.running_var
    return mean is not None and variance is not None and bool((mean == 0).all() and (variance == 1).all())
