"""``kilotune demo``: a complete run on built-in data."""

from pathlib import Path
from typing import Annotated

import typer

from kilotune.cli import options
from kilotune.cli.output import emit, note, use_threads


def demo(
    out: Annotated[Path, typer.Option(help="Folder for demo.png and demo.json.")] = Path("demo"),
    seed: options.Seed = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads; layers this small only wait for a second one.")] = 1,
    as_json: options.AsJson = False,
) -> None:
    """A complete run on built-in data, without download or GPU, in under a minute.

    A network of 35 thousand parameters that was pretrained on handwritten digits is adapted to digits blended into
    photographs: the classifier only, channels chosen by MeDyate under a budget of 256 KiB, and everything.
    Needs scikit-learn, for the images, and matplotlib: pip install kilotune[demo].
    """
    import msgspec

    from kilotune.report.demo import demo_text, run_demo, write_demo
    from kilotune.report.plots import new_figure
    from kilotune.train.files import write_atomic

    use_threads(threads)
    new_figure(1, 1)  # Better to fail before the work than after it.
    result = run_demo(seed=seed, tell=note)
    plot = write_demo(result, out)
    write_atomic(out / "demo.json", msgspec.json.format(msgspec.json.encode(result), indent=1))
    facts = msgspec.to_builtins(result) | {"plot": str(plot)}
    emit(facts, as_json, lambda: f"{demo_text(result)}\n\nplot: {plot}")
