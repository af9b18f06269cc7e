"""What to say where a budget holds nothing: what would do, found from bounds before anything is packed."""

from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from kilotune.errors import KilotuneError
from kilotune.policies import POLICIES, make
from kilotune.policies.base import Bound
from kilotune.units import format_bytes
from kilotune.update_plan import Budget

if TYPE_CHECKING:
    from kilotune.policies.fitting import Fitting


class _Firmware(NamedTuple):
    """What a firmware may do to need less."""

    does: str
    streamed: bool
    accumulate: bool


_FIRMWARE = (
    _Firmware("updates after each sample (--no-accumulate; of finetune --batch-size 1)", False, False),
    _Firmware("streams its blocks (--streamed)", True, True),
    _Firmware("streams its blocks and updates after each sample (--streamed --no-accumulate)", True, False),
)


def advice(fitting: "Fitting", budget: Budget) -> str:
    """The smallest budget that would do, the policies that fit this one, and what firmware could do to fit."""
    others, task = _that_fit(fitting, budget), fitting.task
    way_out = (
        f", use a smaller input, or a policy that fits: {', '.join(others)}"
        if others
        else " or use a smaller input; no policy fits"
    )
    takes = f"{needs(fitting, budget)} ({budget.ledger} ledger)"
    return (
        f"policy {fitting.policy.name} on {task.graph.model} at {'x'.join(map(str, task.graph.input.shape[1:]))} "
        f"{takes}, the budget is {format_bytes(budget.nbytes)}; raise the budget{way_out}{_as_firmware(fitting, budget)}"
    )


def _as_firmware(fitting: "Fitting", budget: Budget) -> str:
    """The first of ``_FIRMWARE`` with which the policy fits, and what it then needs."""
    now = fitting.accounting
    for does, streamed, accumulate in _FIRMWARE if budget.ledger == "total" and now.batch == 1 else ():
        accounting = replace(now, streamed=streamed or now.streamed, accumulate=accumulate and now.accumulate)
        least = replace(fitting, accounting=accounting, timelines=None, _layouts={}).least(budget)
        if least is not None and least <= budget.nbytes:
            return f"; a firmware that {does} needs at least {format_bytes(least)}"
    return ""


def needs(fitting: "Fitting", budget: Budget) -> str:
    """The smallest budget under which the policy trains anything, in words."""
    least = fitting.least(budget)
    return "has nothing to train" if least is None else f"needs at least {format_bytes(least)}"


def _that_fit(fitting: "Fitting", budget: Budget) -> list[str]:
    """Policies of which something fits. Where not even the classifier's step does, nothing can."""
    nothing = Bound((0,) * len(fitting.task.table.names), 0)
    if fitting.floor(nothing, budget) > budget.nbytes:
        return []
    return [name for name in POLICIES if _fits(replace(fitting, policy=make(name)), budget)]


def _fits(fitting: "Fitting", budget: Budget) -> bool:
    try:
        # Pools of the last layers take least.
        return any(front.fits(bound, budget) for front in reversed(fitting.fronts()) for bound in front.smallest())
    except KilotuneError:
        return False
