"""What to say where a budget holds nothing: what would do, found from bounds before anything is packed."""

from dataclasses import replace
from typing import TYPE_CHECKING

from kilotune.errors import KilotuneError
from kilotune.policies import POLICIES, make
from kilotune.policies.base import Bound
from kilotune.units import format_bytes
from kilotune.update_plan import Budget

if TYPE_CHECKING:
    from kilotune.policies.fitting import Fitting


def advice(fitting: "Fitting", budget: Budget) -> str:
    """The smallest budget that would do, and the policies that fit this one."""
    others, task = _that_fit(fitting, budget), fitting.task
    way_out = (
        f", use a smaller input, or a policy that fits: {', '.join(others)}"
        if others
        else " or use a smaller input; no policy fits"
    )
    takes = f"{needs(fitting, budget)} ({budget.ledger} ledger)"
    return (
        f"policy {fitting.policy.name} on {task.graph.model} at {'x'.join(map(str, task.graph.input.shape[1:]))} "
        f"{takes}, the budget is {format_bytes(budget.nbytes)}; raise the budget{way_out}"
    )


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
