"""``kilotune verify``: an exported project against PyTorch."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kilotune.cli import options
from kilotune.cli.output import emit

if TYPE_CHECKING:
    from kilotune.deploy.verify import Verification

_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `kilotune export` wrote.")]
_Compilers = Annotated[list[str] | None, typer.Option("--compiler", help="gcc, clang or both [default: both]")]


def verify(dir: _Folder, compiler: _Compilers = None, as_json: options.AsJson = False) -> None:
    """Compile a project for this computer and compare it with PyTorch: every layer's activation and gradient, every updated
    weight, then ten and a hundred steps of loss. Exit code 1 where they differ by more than rounding.
    """
    from kilotune.deploy.verify import verify as compare

    found = [compare(dir, name) for name in compiler or ("gcc", "clang")]
    worst = next((one for one in found if not one.ok), found[0])
    first = worst.first_divergence
    result = {
        "ok": all(one.ok for one in found),
        "first_divergence": None if first is None else first._asdict(),
        "max_ulp": max(one.max_ulp for each in found for one in each.differences),
        "values": len(worst.differences),
        "steps": len(worst.loss_c),
        "compilers": [one.compiler for one in found],
        "loss_torch": worst.loss_torch,
        "loss_c": worst.loss_c,
    }
    emit(result, as_json, lambda: "\n\n".join(_text(one) for one in found))
    if not result["ok"]:
        raise typer.Exit(1)


def _text(found: "Verification") -> str:
    from kilotune.report.table import text_table

    rows = sorted(found.differences, key=lambda one: -one.relative)[:5]
    table = text_table(
        ["value", "relative", "max ulp", "mean ulp"],
        [(one.name, f"{one.relative:.1e}", f"{one.max_ulp:.1f}", f"{one.mean_ulp:.2f}") for one in rows],
    )
    first = found.first_divergence
    verdict = "no divergence"
    if first is not None:
        ulp = f"at most {first.max_ulp:.1f} ulp, mean {first.mean_ulp:.2f}"
        verdict = f"first divergence: {first.name}, relative {first.relative:.1e}, {ulp}"
    losses = "\n".join(
        f"{n} steps of loss: {'the same' if agree else 'different'}, at most {apart:.1e} apart"
        for n, agree, apart in found.losses_apart
    )
    return f"{found.compiler}: {len(found.differences)} values compared, {verdict}; farthest:\n{table}\n{losses}"
