"""Fine-tune neural networks in kilobytes: choose what to train under a hard memory budget, keep nothing else.

The names below are the stable surface; they are imported when first used, so that ``import kilotune`` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from kilotune.errors import KilotuneError
    from kilotune.graph.capture import capture
    from kilotune.graph.node import Graph
    from kilotune.memory.accounting import Accounting
    from kilotune.memory.ledger import LedgerReport, ledger
    from kilotune.memory.measure import saved_bytes
    from kilotune.ops.prepare import Step, prepare
    from kilotune.policies import POLICIES
    from kilotune.policies.fit import Selector, plan
    from kilotune.policies.ranking import Ranking
    from kilotune.train.loop import FineTuner
    from kilotune.train.rank import rank
    from kilotune.train.update import apply_update
    from kilotune.update_plan import Budget, ChannelSet, UpdatePlan

__version__ = "0.1.0"

_HOME = {
    "Accounting": "memory.accounting",
    "Budget": "update_plan",
    "ChannelSet": "update_plan",
    "FineTuner": "train.loop",
    "Graph": "graph.node",
    "KilotuneError": "errors",
    "LedgerReport": "memory.ledger",
    "POLICIES": "policies",
    "Ranking": "policies.ranking",
    "Selector": "policies.fit",
    "Step": "ops.prepare",
    "UpdatePlan": "update_plan",
    "apply_update": "train.update",
    "capture": "graph.capture",
    "ledger": "memory.ledger",
    "plan": "policies.fit",
    "prepare": "ops.prepare",
    "rank": "train.rank",
    "saved_bytes": "memory.measure",
}

__all__ = [
    "POLICIES",
    "Accounting",
    "Budget",
    "ChannelSet",
    "FineTuner",
    "Graph",
    "KilotuneError",
    "LedgerReport",
    "Ranking",
    "Selector",
    "Step",
    "UpdatePlan",
    "apply_update",
    "capture",
    "ledger",
    "plan",
    "prepare",
    "rank",
    "saved_bytes",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'kilotune' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"kilotune.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
