"""Firmware on emulated boards: does it learn, what does a step cost, the same bits everywhere?

Usage: python benchmarks/emulated.py CASE, a key of CASES. Needs the boards' tools and, for real images, $KILOTUNE_DATA.

Each case exports a project with ``kilotune export`` and runs it with ``kilotune emulate`` on its boards; the answers, with the
versions of compiler and emulator, go to ``benchmarks/results/emulated_CASE.json``. Instruction counts are exact for a compiler
version, so a change of them in that file has a reason, which the commit gives.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).parent / "results"


class Case(NamedTuple):
    """Arguments of ``kilotune export`` and ``kilotune emulate``, the boards, and arguments of ``kilotune prune``, whose network
    is then exported."""

    export: tuple[str, ...]
    emulate: tuple[str, ...]
    boards: tuple[str, ...]
    prune: tuple[str, ...] = ()


# The work that the best peer was measured on: MCUNet-5fps at 128x128, Sparse Update 49kb.
PEER = (
    *("mcunet_5fps", "--weights", "mcunet_5fps_int8", "--classes", "10", "--input", "3x128x128"),
    *("--policy", "sparse_update", "--option", "scheme=49kb", "--budget", "2MiB", "--no-accumulate"),
)

CASES = {
    # An ImageNet network learns on the device whether there is a person in the image.
    "vww": Case(
        (
            *("mcunet_in2", "--weights", "mcunet_in2", "--classes", "2", "--input", "3x80x80"),
            *("--policy", "medyate", "--budget", "250KiB", "--lr", "0.005"),
        ),
        (
            *("--data", "vww96", "--samples", "300", "--test-samples", "200"),
            *("--epochs", "2", "--batch-size", "4"),
            "--ram",
            "256KiB",
        ),
        ("mps2-an386",),
    ),
    "sparse_update": Case(
        PEER, ("--data", "cifar10", "--samples", "2", "--test-samples", "1"), ("mps2-an500", "mps2-an386")
    ),
    # The same within 256 KiB: more instructions, less RAM and flash than the peer.
    "sparse_update_streamed": Case(
        (*PEER, "--streamed", "--weights-dtype", "int8"),
        ("--data", "cifar10", "--samples", "2", "--test-samples", "1", "--ram", "256KiB"),
        ("mps2-an500", "mps2-an386"),
    ),
    # MeDyate at its smallest published budget, 27,946 elements: a 128x128 image within 256 KiB, everything counted.
    "streamed": Case(
        (
            *("mobilenet_v2_w0.35_nohead", "--weights", "mbv2_w0.35_int8", "--classes", "10", "--input", "3x128x128"),
            *("--policy", "medyate", "--ledger", "selection", "--budget", "111784", "--no-accumulate", "--streamed"),
            *("--weights-dtype", "int8", "--lr", "0.002"),
        ),
        (*("--data", "cifar10", "--samples", "200", "--test-samples", "200", "--epochs", "2"), "--ram", "256KiB"),
        ("mps2-an386",),
    ),
    # The same policy and budget on the network with its last convolution, of which there are no weights: everything in float32.
    "streamed_float32": Case(
        (
            *("mobilenet_v2_w0.35_mix", "--classes", "10", "--input", "3x128x128"),
            *("--policy", "medyate", "--ledger", "selection", "--budget", "111784", "--no-accumulate", "--streamed"),
        ),
        (*("--data", "cifar10", "--samples", "4", "--test-samples", "2", "--epochs", "2"), "--ram", "256KiB"),
        ("mps2-an386",),
    ),
    # The network and policy of dgsu_system.py, depthwise kernels cut to patterns besides: what a step and a redraw cost.
    "dgsu": Case(
        (
            *("mobilenet_v2_same", "--classes", "10", "--input", "3x112x112", "--policy", "dgsu"),
            *("--option", "turns=4", "--option", "traversal=strided", "--option", "decay=0.5"),
            *("--budget", "256KiB", "--streamed", "--program", "4KiB", "--weights-dtype", "int8"),
        ),
        (*("--data", "cifar10", "--samples", "20", "--test-samples", "4", "--batch-size", "5"), "--ram", "256KiB"),
        ("mps2-an386",),
        (
            *("mobilenet_v2_same", "--weights", "mbv2_w1.0_int8", "--input", "3x112x112"),
            *("--ratio", "0", "--layer", "features.18.0=0.5", "--patterns"),
        ),
    ),
    # Small enough for a test that holds the counts.
    "digits": Case(
        ("digitnet", "--input", "3x32x32", "--policy", "medyate", "--budget", "160KiB"),
        ("--data", "digits_shifted", "--samples", "4", "--test-samples", "2", "--epochs", "2", "--batch-size", "2"),
        ("mps2-an386", "rv32-virt"),
    ),
}


def kilotune(*arguments: str) -> dict:
    """A command of kilotune, and its JSON."""
    command = [sys.executable, "-c", "from kilotune.cli.main import main; main()", *arguments, "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def version(tool: str) -> str:
    """First line of what a tool says of itself."""
    return subprocess.run([tool, "--version"], check=True, capture_output=True, text=True).stdout.splitlines()[0]


def run(case: Case) -> dict:
    """Everything a case tells."""
    with tempfile.TemporaryDirectory() as folder:
        project, pruned = str(Path(folder) / "project"), str(Path(folder) / "pruned.safetensors")
        if case.prune:
            kilotune("prune", *case.prune, "--out", pruned)
        weights = ("--weights", pruned) if case.prune else ()
        exported = kilotune("export", *case.export, *weights, "--out", project)
        boards = {board: kilotune("emulate", project, *case.emulate, "--board", board) for board in case.boards}
    return {
        **({"prune": " ".join(case.prune)} if case.prune else {}),
        "export": " ".join(case.export),
        "emulate": " ".join(case.emulate),
        "tools": [version(tool) for tool in ("arm-none-eabi-gcc", "qemu-system-arm")],
        "memory": exported["memory"],
        "flash_bytes": exported["flash_bytes"],
        "boards": boards,
    }


if __name__ == "__main__":
    [name] = sys.argv[1:]
    result = run(CASES[name])
    (RESULTS / f"emulated_{name}.json").write_text(json.dumps(result, indent=1) + "\n")
    for board, found in result["boards"].items():
        counts, ram = found["instructions"], found["ram_bytes"]
        print(
            f"{board}: accuracy {found['accuracy_before']:.1%} -> {found['accuracy_after']:.1%}, {counts['forward']:,} forward, "
            f"{counts['step']:,} step, RAM {ram:,} B, weights {found['weights_hash']}"
        )
