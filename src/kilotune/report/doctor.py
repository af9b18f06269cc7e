"""Does it really train: each claim of the engine tried on the user's own model, against slow and obvious references."""

from collections.abc import Callable
from dataclasses import dataclass

from kilotune.report import checks
from kilotune.report.case import Case


@dataclass(frozen=True)
class Check:
    """One claim, whether it holds, and what was seen."""

    name: str
    passed: bool
    detail: str


CHECKS: dict[str, Callable[[Case], str]] = {
    "loss falls on one batch": checks.loss_falls,
    "input and label matter": checks.input_and_label_matter,
    "gradients equal dense autograd": checks.gradients_are_dense_ones,
    "only the plan changes": checks.only_the_plan_changes,
    "kept bytes equal the ledger": checks.bytes_are_the_ledgers,
    "optimiser follows redraws": checks.optimizer_follows,
    "batch norm is frozen": checks.norms_are_frozen,
    "undo is exact": checks.undo_is_exact,
    "every draw fits": checks.every_draw_fits,
}


def examine(case: Case) -> list[Check]:
    """Every check of ``CHECKS``; an exception inside one is a failed check, not the end of the examination."""
    return [_run(name, check, case) for name, check in CHECKS.items()]


def _run(name: str, check: Callable[[Case], str], case: Case) -> Check:
    try:
        return Check(name, True, check(case))
    except checks.Fault as fault:
        return Check(name, False, str(fault))
    except Exception as error:  # whatever the fault, the user must see the other checks too
        return Check(name, False, f"{type(error).__name__}: {error}")
