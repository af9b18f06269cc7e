"""``kilotune emulate``: an exported project trains on an emulated board."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kilotune.cli import options
from kilotune.cli.output import emit, note

if TYPE_CHECKING:
    from kilotune.codegen.emulate import Emulation
    from kilotune.codegen.manifest import Manifest
    from kilotune.codegen.session import Session

_Folder = Annotated[Path, typer.Argument(metavar="DIR", help="A folder that `kilotune export` wrote.")]
_Board = Annotated[str, typer.Option(help="mps2-an386 and others; an unknown name lists all.")]
_Samples = Annotated[int, typer.Option(min=1, help="Images to train on, balanced over the classes.")]
_Test = Annotated[int, typer.Option(min=1, help="Images of the test split, for the accuracy before and after.")]
_Epochs = Annotated[int, typer.Option(min=1, help="Times that the training images are gone through.")]
_Batch = Annotated[int, typer.Option(min=1, help="Images whose gradients are summed before weights change.")]
_Timeout = Annotated[float, typer.Option(min=1, help="Seconds after which the emulator is stopped.")]


def emulate(
    dir: _Folder,
    data: options.Data,
    board: _Board = "mps2-an386",
    ram: options.Ram = None,
    samples: _Samples = 100,
    test_samples: _Test = 100,
    epochs: _Epochs = 1,
    batch_size: _Batch = 1,
    seed: options.Seed = 0,
    timeout: _Timeout = 3600.0,
    as_json: options.AsJson = False,
) -> None:
    """Build a project for a board, let it train there under QEMU within its RAM, and compare with the same C on this computer.

    Images reach the firmware one at a time. Accuracy is the firmware's own, on test images, before and after. Instructions are
    counted exactly and the same every time; they are not cycles.
    """
    from kilotune.codegen.boards import find_board
    from kilotune.codegen.emulate import compare, find_tools, run_on_host
    from kilotune.codegen.emulate import emulate as run
    from kilotune.codegen.firmware import Project
    from kilotune.codegen.manifest import Manifest

    target, manifest = find_board(board), Manifest.read(dir)
    limit, project = target.ram_limit(ram), Project.of(dir)
    target.check_store(manifest.store_bytes)
    find_tools(target)
    session = _session(manifest, data, samples, test_samples, epochs, batch_size, seed)
    note(f"{len(session.order)} training steps on {target.name} ({target.processor}), {limit:,} B of RAM")
    found = run(project, target, limit, session, timeout)
    compare(found.outcome, run_on_host(project, session, timeout=timeout), target.name)
    result = _result(manifest, board, limit, found, len(session.test))
    emit(result, as_json, lambda: _text(result, found))


def _session(
    manifest: "Manifest", data: str, samples: int, test_samples: int, epochs: int, batch_size: int, seed: int
) -> "Session":
    """Images as the network was trained on them, resized and normalised, but not augmented."""
    from kilotune.codegen.session import Session, check_labels, shuffled_order
    from kilotune.data.augment import Augment
    from kilotune.data.sets import load
    from kilotune.errors import DataError

    dataset = load(data, max(manifest.input[1:]), seed)
    if dataset.n_classes != manifest.n_classes:
        raise DataError(
            f"{dataset.name} has {dataset.n_classes} classes, the project was exported for {manifest.n_classes}; "
            "choose data of the same ones, or export with --classes"
        )
    channels, is_text = dataset.train.images.shape[1], dataset.train.is_text
    if is_text or channels != manifest.input[0]:
        found = "texts" if is_text else f"images (c, h, w) with c = {channels}"
        raise DataError(f"{dataset.name} has {found}, the project takes c = {manifest.input[0]}; choose other data")
    augment = Augment(manifest.input[1:], "none", manifest.mean, manifest.std)
    images = augment.bytes if manifest.image_dtype == "uint8" else augment.evaluate
    train, test = dataset.train.take(samples, seed), dataset.test.take(test_samples, seed)
    for split, name in ((train, "train"), (test, "test")):
        check_labels(split.labels.numpy(), manifest.n_classes, name)
    redraw = manifest.redraw
    rules = {"never": 0, "epoch": len(train), "step": batch_size}
    steps_per_draw = rules[redraw] if isinstance(redraw, str) else redraw * batch_size
    return Session(
        images(train.images).numpy(),
        train.labels.numpy(),
        images(test.images).numpy(),
        test.labels.numpy(),
        shuffled_order(len(train), epochs, seed),
        batch_size,
        steps_per_draw,
    )


def _result(manifest: "Manifest", board: str, limit: int, found: "Emulation", n_test: int) -> dict[str, Any]:
    outcome, sizes = found.outcome, found.sizes
    return {
        "board": board,
        "ram_limit_bytes": limit,
        "ram_bytes": sizes.ram,
        "arena_bytes": manifest.arena_bytes,
        "program_bytes": sizes.ram - manifest.arena_bytes,
        "arena_high_water_bytes": outcome.arena_bytes,
        "stack_bytes": sizes.stack,
        "stack_high_water_bytes": outcome.stack_bytes,
        "data_bytes": sizes.data,
        "bss_bytes": sizes.bss,
        "text_bytes": sizes.text,
        "instructions": {phase: count.mean for phase, count in found.instructions.items()},
        "phases": {phase: asdict(count) for phase, count in found.instructions.items()},
        "loss": list(outcome.loss),
        "n_test": n_test,
        "accuracy_before": outcome.n_right_before / n_test,
        "accuracy_after": outcome.n_right_after / n_test,
        "weights_hash": f"{outcome.weights_hash:08x}",
    }


def _text(result: dict[str, Any], found: "Emulation") -> str:
    from kilotune.report.table import text_table

    loss, quarter = result["loss"], max(1, len(result["loss"]) // 4)
    phases = [(phase, count.calls, count.fewest, count.most) for phase, count in found.instructions.items()]
    return "\n".join(
        [
            f"accuracy {result['accuracy_before']:.1%} -> {result['accuracy_after']:.1%} on {result['n_test']} test images, "
            f"loss {sum(loss[:quarter]) / quarter:.4f} -> {sum(loss[-quarter:]) / quarter:.4f} over {len(loss)} steps",
            f"RAM {result['ram_bytes']:,} of {result['ram_limit_bytes']:,} B: .data {result['data_bytes']:,}, .bss "
            f"{result['bss_bytes']:,} (arena {result['arena_bytes']:,}, used {result['arena_high_water_bytes']:,}), stack "
            f"{result['stack_bytes']:,} (used {result['stack_high_water_bytes']:,}), beside the arena "
            f"{result['program_bytes']:,}; .text {result['text_bytes']:,} B",
            f"weights hash {result['weights_hash']}, the same on this computer",
            "",
            text_table(["instructions of", "calls", "fewest", "most"], phases),
        ]
    )
