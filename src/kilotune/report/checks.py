"""The claims of the engine, each as a function that returns what it saw or raises Fault."""

from copy import deepcopy

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from kilotune.graph.node import BatchNorm, Conv2d, FoldedNorm, Linear
from kilotune.memory.accounting import Accounting
from kilotune.memory.ledger import ledger
from kilotune.memory.measure import saved_by_layer, saved_bytes
from kilotune.ops.prepare import Step
from kilotune.policies.fit import Selector
from kilotune.report.case import Case
from kilotune.report.entries import same_bits, snapshot, trained_entries
from kilotune.units import format_bytes
from kilotune.update_plan import UpdatePlan

OVERFIT_STEPS = 30
OVERFIT_RATES = (
    1e-2,
    1e-3,
)  # Of Adam, whose steps do not depend on the scale of the loss; the first that works counts.
FALL = 0.8  # A batch seen 30 times must lose a fifth of its loss; a working engine takes far more.
N_DRAWS = 20
N_REDRAWS = 5
# Gradients are compared in float64: in float32, units at the kink of a ReLU fall on the other side when folding rounds
# differently, and through a deep network that alone moves a layer's gradient by a percent.
GRADIENT_TOLERANCE = 1e-6
# A layer whose gradient is this small a share of the whole network's is compared with the whole.
GRADIENT_FLOOR = 1e-9
# Below this share of the whole gradient, a step may round to nothing in float32.
MOVING_SHARE = 1e-4
# Folding reorders float32 sums; relative to the largest logit.
OUTPUT_TOLERANCE = 1e-3


class Fault(Exception):
    """What a check found wrong."""


def loss_falls(case: Case) -> str:
    """Adam on one batch lowers its loss."""
    seen = [_overfit(case, rate) for rate in OVERFIT_RATES]
    best = min(after / before for before, after in seen)
    detail = "; ".join(
        f"{before:.3f} -> {after:.3f} at rate {rate}" for rate, (before, after) in zip(OVERFIT_RATES, seen, strict=True)
    )
    if not best <= FALL:
        raise Fault(f"one batch repeated {OVERFIT_STEPS} times keeps its loss: {detail}")
    return detail


def _overfit(case: Case, rate: float) -> tuple[float, float]:
    """Loss in evaluation mode before and after."""
    step = case.fresh()
    before = case.loss(step).item()
    optimizer = torch.optim.Adam(step.parameters(), lr=rate)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # dropout
        for _ in range(OVERFIT_STEPS):
            case.train_once(step.train(), optimizer)
    return before, case.loss(step.eval()).item()


def input_and_label_matter(case: Case) -> str:
    """Other inputs give other outputs, other labels other gradients."""
    step = case.fresh()
    with torch.no_grad():
        spread = (step(case.x[:1]) - step(case.x[1:2])).abs().max().item()
    if not spread > 0:
        raise Fault(f"two different inputs give the same output (largest difference {spread})")
    if case.n_classes < 2:
        raise Fault("the model has one output, so that cross-entropy is 0 for every label; give it two")
    gradients = [_gradients(case, step, labels) for labels in (case.y, (case.y + 1) % case.n_classes)]
    if all(torch.equal(a, b) for a, b in zip(*gradients, strict=True)):
        raise Fault("other labels give the same gradients")
    return f"outputs of two inputs differ by up to {spread:.3g}; other labels give other gradients"


def _gradients(case: Case, step: Step, labels: Tensor) -> list[Tensor]:
    step.zero_grad()
    cross_entropy(step(case.x), labels).backward()
    return [torch.zeros_like(p) if p.grad is None else p.grad.clone() for p in step.parameters()]


def gradients_are_dense_ones(case: Case) -> str:
    """One SGD step moves the trained entries by what PyTorch's own autograd computes for the whole model."""
    exact = case.double()
    step, dense = exact.fresh(torch.float64), _dense_gradients(exact)
    total = _norm(dense)
    if not 0 < total < float("inf"):
        raise Fault(f"the gradient of the dense model has norm {total}; nothing can be compared")
    before, masks = snapshot(step.model), trained_entries(case.graph, case.plan, step.model)
    rate = 1 / total
    exact.train_once(step, torch.optim.SGD(step.parameters(), lr=rate))
    after = step.sync().state_dict()
    worst = 0.0
    for name, mask in masks.items():
        wanted = dense[name][mask]
        error = ((before[name] - after[name])[mask] / rate - wanted).norm().item()
        allowed = GRADIENT_TOLERANCE * wanted.norm().item() + GRADIENT_FLOOR * total
        worst = max(worst, error / total)
        if not error <= allowed:
            raise Fault(f"{name}: one SGD step is off by {error:.3g} from dense autograd, {allowed:.3g} is allowed")
    return f"one SGD step moves {len(masks)} tensors as dense autograd says, off by at most {worst:.0e} of the gradient"


def _dense_gradients(case: Case) -> dict[str, Tensor]:
    model = deepcopy(case.model).eval().requires_grad_(True)
    case.loss(model).backward()
    return {name: torch.zeros_like(p) if p.grad is None else p.grad for name, p in model.named_parameters()}


def _norm(gradients: dict[str, Tensor]) -> float:
    return torch.stack([gradient.norm() for gradient in gradients.values()]).norm().item()


def only_the_plan_changes(case: Case) -> str:
    """Outside the plan not one bit changes; inside it, every tensor with a gradient does."""
    step = case.fresh()
    before = snapshot(step.model)
    masks = trained_entries(case.graph, case.plan, step.model)
    dense = _dense_gradients(case)
    floor = MOVING_SHARE * _norm(dense)
    optimizer = torch.optim.Adam(step.parameters(), lr=OVERFIT_RATES[0])
    for _ in range(3):
        case.train_once(step, optimizer)
    changed = {name: ~same_bits(before[name], tensor) for name, tensor in step.restore().state_dict().items()}
    outside = [name for name, bits in changed.items() if (bits & ~masks.get(name, torch.zeros_like(bits))).any()]
    if outside:
        raise Fault(f"weights outside the plan changed: {', '.join(outside)}")
    still = [name for name, mask in masks.items() if dense[name][mask].norm() > floor and not changed[name].any()]
    if still:
        raise Fault(f"weights inside the plan did not change: {', '.join(still)}")
    n_changed = sum(int(bits.sum()) for bits in changed.values())
    n_inside = sum(int(mask.sum()) for mask in masks.values())
    n_outside = sum(tensor.numel() for tensor in before.values()) - n_inside
    return f"{n_changed:,} of {n_inside:,} numbers inside the plan changed, none of {n_outside:,} outside"


def bytes_are_the_ledgers(case: Case) -> str:
    """What autograd keeps equals the ledger, layer by layer."""
    for batch in (1, len(case.x)):
        # A slice would keep the memory of the whole batch alive, and that is what the hooks measure.
        step, x, y = case.fresh(), case.x[:batch].clone(), case.y[:batch].clone()
        report = ledger(case.graph, case.plan, accounting=Accounting(batch=batch))
        kept = saved_by_layer(step, x, y)
        wrong = [
            f"{layer} {kept.get(layer, 0):,} B kept, {report.by_layer.get(layer, 0):,} B in the ledger"
            for layer in {**kept, **report.by_layer}
            if kept.get(layer, 0) != report.by_layer.get(layer, 0)
        ]
        if wrong:
            raise Fault(f"at batch {batch}: {'; '.join(wrong)}")
        measured = saved_bytes(step, x, y)
        if measured != report.saved_bytes:
            raise Fault(f"at batch {batch}: autograd keeps {measured:,} B, the ledger says {report.saved_bytes:,} B")
    return f"{format_bytes(measured)} kept at batch {len(case.x)}, equal in each of {len(kept)} entries, and at batch 1"


def optimizer_follows(case: Case) -> str:
    """After each redraw the optimiser holds the live parameters and their state, and nothing else."""
    step, selector = case.fresh(), deepcopy(case.selector)
    optimizer = torch.optim.Adam(step.parameters(), lr=OVERFIT_RATES[1])
    n_drawn = set()
    for redraw in range(N_REDRAWS):
        case.train_once(step, optimizer)
        _steer(selector, step.plan, seed=redraw)
        step.replan(selector.draw(), optimizer)
        n_drawn.add(step.plan)
        _check_optimizer(step, optimizer)
        before = [parameter.detach().clone() for parameter in step.parameters()]
        case.train_once(step, optimizer)
        _check_optimizer(step, optimizer)
        if all(torch.equal(a, b) for a, b in zip(before, step.parameters(), strict=True)):
            raise Fault(f"after redraw {redraw + 1} the optimiser moves none of the live parameters")
    return f"{N_REDRAWS} redraws, {len(n_drawn)} of them different; parameters and state are the live ones each time"


def _check_optimizer(step: Step, optimizer: torch.optim.Optimizer) -> None:
    held = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    live = list(step.parameters())
    if len(held) != len(live) or {id(p) for p in held} != {id(p) for p in live}:
        missing = len({id(p) for p in live} - {id(p) for p in held})
        raise Fault(
            f"the optimiser holds {len(held)} parameters, {len(live)} are live, {missing} of these are not held"
        )
    stale = [p for p in optimizer.state if not any(p is q for q in live)]
    if stale:
        raise Fault(f"the optimiser still keeps the state of {len(stale)} parameters that are gone")
    for parameter in live:
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor) and value.dim() and value.shape != parameter.shape:
                raise Fault(f"state {key} has shape {tuple(value.shape)}, its parameter {tuple(parameter.shape)}")


def norms_are_frozen(case: Case) -> str:
    """Running statistics stay, and the folded network computes what the model itself computes."""
    step = case.fresh()
    norms = [node.op.norm for node in case.graph.nodes if isinstance(node.op, Conv2d | Linear | BatchNorm)]
    names = [name for norm in norms if isinstance(norm, FoldedNorm) for name in (norm.mean, norm.variance)]
    before = snapshot(step.model)
    optimizer = torch.optim.SGD(step.parameters(), lr=OVERFIT_RATES[1])
    for _ in range(3):
        case.train_once(step.train(), optimizer)
    model = step.eval().sync()
    moved = [name for name in names if not same_bits(before[name], model.state_dict()[name]).all()]
    if moved:
        raise Fault(f"running statistics changed: {', '.join(moved)}")
    with torch.no_grad():
        ours, theirs = case.logits(step), case.logits(deepcopy(model).eval())
    error = ((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-12)).item()
    if not error <= OUTPUT_TOLERANCE:
        raise Fault(
            f"after training, the output differs from that of the model itself by {error:.2g} of its largest logit"
        )
    return f"{len(names) // 2} frozen batch norms; output equals the model's own to {error:.1g} of its largest logit"


def undo_is_exact(case: Case) -> str:
    """Preparing, redrawing and restoring leave the model as it was."""
    step, selector = case.fresh(), deepcopy(case.selector)
    before = snapshot(case.model)
    flags = [parameter.requires_grad for parameter in case.model.parameters()]
    for redraw in range(N_REDRAWS):
        with torch.no_grad():
            step(case.x[:1])
        _steer(selector, step.plan, seed=redraw)
        step.replan(selector.draw())
    model = step.restore()
    changed = [name for name, tensor in model.state_dict().items() if not same_bits(before[name], tensor).all()]
    if changed:
        raise Fault(f"preparing, redrawing and restoring without training changed {', '.join(changed)}")
    if [parameter.requires_grad for parameter in model.parameters()] != flags:
        raise Fault("requires_grad of the model's parameters is not what it was")
    return f"{len(before)} tensors of the model are bit for bit as before after {N_REDRAWS} redraws and restore()"


def every_draw_fits(case: Case) -> str:
    """No draw exceeds the worst case, nor this the budget."""
    selector = deepcopy(case.selector)
    worst = selector.worst_case
    bound = worst.total_bytes if case.budget.ledger == "total" else worst.selection_elements * 4
    if bound > case.budget.nbytes:
        raise Fault(f"the worst case is {format_bytes(bound)}, over the budget of {case.budget}")
    largest = 0
    for number in range(1, N_DRAWS + 1):
        plan = selector.draw()
        report = selector.layout.report(plan)
        if report.total_bytes > worst.total_bytes or report.selection_elements > worst.selection_elements:
            raise Fault(
                f"draw {number} takes {format_bytes(report.total_bytes)} and {report.selection_elements:,} elements; "
                f"the worst was to be {format_bytes(worst.total_bytes)} and {worst.selection_elements:,}"
            )
        largest = max(largest, report.total_bytes)
        _steer(selector, plan, seed=number)
    limit = "no budget" if case.budget.nbytes >= 1 << 60 else f"budget {case.budget}"
    return (
        f"{N_DRAWS} draws: total at most {format_bytes(largest)}, worst case {format_bytes(worst.total_bytes)}, {limit}"
    )


def _steer(selector: Selector, plan: UpdatePlan, seed: int) -> None:
    """Let the policy see norms that vary widely, so that its next draw is unlike the last."""
    draws = np.random.default_rng(seed)
    selector.observe(plan, {one.layer: draws.lognormal(0, 2, len(one.indices)) for one in plan.channels})
