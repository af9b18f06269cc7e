"""The command ``kilotune``: one table of commands, each imported when it is called."""

import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from kilotune import __version__
from kilotune.errors import KilotuneError

# name -> (module, help); the module has a function of its own name.
COMMANDS = {
    "inspect": (
        "kilotune.cli.inspect",
        "Layers of a network, their shapes, elements and MACs, and what is unsupported.",
    ),
    "plan": ("kilotune.cli.plan", "What a policy trains inside a memory budget, and what that costs, byte by byte."),
    "ledger": ("kilotune.cli.ledger", "What a plan file costs on a network."),
    "rank": ("kilotune.cli.rank", "Measure which layers matter (RGN and LaRa) and save the ranking."),
    "calibrate": ("kilotune.cli.calibrate", "Find the ranks at which ASI keeps inputs, under a budget."),
    "prune": ("kilotune.cli.prune", "Make a pretrained network narrower, once, before it is fine-tuned."),
    "search": ("kilotune.cli.search", "Search for the layers and ratios of a Sparse Update scheme under a budget."),
    "finetune": ("kilotune.cli.finetune", "Fine-tune a network on a data set inside a memory budget."),
    "resume": ("kilotune.cli.resume", "Go on with a run that was broken off."),
    "eval": ("kilotune.cli.evaluate", "Accuracy and loss of a run on a data set."),
    "compare": ("kilotune.cli.compare", "Several runs in one table."),
    "report": ("kilotune.cli.report", "Plots of a run."),
    "doctor": ("kilotune.cli.doctor", "Check that a network really trains under a plan."),
    "export": ("kilotune.cli.export", "A C project that trains a network on a microcontroller."),
    "verify": ("kilotune.cli.verify", "Compare a C project with PyTorch, value by value."),
    "emulate": ("kilotune.cli.emulate", "Train an exported project on an emulated board, within its RAM."),
    "fetch": ("kilotune.cli.fetch", "Download a registered data set or checkpoint."),
    "demo": ("kilotune.cli.demo", "A complete run on built-in data, without download or GPU."),
}

_SETTINGS: dict[str, Any] = {
    "add_completion": False,
    "rich_markup_mode": None,  # Help in plain text comes up in half the time.
    "pretty_exceptions_enable": False,
}


class _LazyCommand(TyperCommand):
    """Stands for a command in listings, and becomes it when it is called."""

    def __init__(self, name: str, module: str, help: str):
        super().__init__(name, help=help)
        self._module = module

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        function = getattr(import_module(self._module), self._module.rpartition(".")[2])
        app = typer.Typer(**_SETTINGS)
        app.command(self.name)(function)
        return typer.main.get_command(app).make_context(info_name, args, parent, **extra)


class _Commands(TyperGroup):
    """The commands of ``COMMANDS``; turns kilotune's errors into one line on stderr and exit code 1."""

    def __init__(self, **settings: Any):
        super().__init__(**settings)
        for name, (module, help) in COMMANDS.items():
            self.add_command(_LazyCommand(name, module, help))

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (KilotuneError, OSError) as error:
            _give_up(error, code=1)
        except KeyboardInterrupt as error:
            _give_up(error if str(error) else "stopped by Ctrl-C; nothing was written", code=130)


def _give_up(reason: object, code: int) -> None:
    typer.echo(f"kilotune: {reason}", err=True)
    raise typer.Exit(code)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    epilog="Exit codes: 0 done, 1 asked for something impossible, 2 bad usage, 130 stopped by Ctrl-C.",
    **_SETTINGS,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"kilotune {__version__}")
        raise typer.Exit


@app.callback()
def _kilotune(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Fine-tune neural networks in kilobytes: choose what to train under a hard memory budget, keep nothing else."""


def main() -> None:
    """Entry point of the command line; leaves with the exit code."""
    sys.exit(app(prog_name="kilotune"))
