"""Writes what README.md and docs show from ``benchmarks/results``: tables, between markers, and the picture.

Usage: python benchmarks/readme.py
"""

from pathlib import Path
from statistics import mean, stdev

import msgspec
import numpy as np

ROOT = Path(__file__).parent.parent
PAGES = (
    ROOT / "README.md",
    ROOT / "docs" / "guides" / "choose-a-policy.md",
    ROOT / "docs" / "guides" / "export-to-firmware.md",
    ROOT / "docs" / "papers" / "all_methods.md",
    ROOT / "docs" / "papers" / "dgsu.md",
)
RESULTS = ROOT / "benchmarks" / "results"
PICTURE = ROOT / "docs" / "images" / "mcunet_256KiB.png"
KINDS = ("input", "activation", "mask", "gradient", "scratch")


# Top-1 on CIFAR-10, ProxylessNAS-w0.3, 25,984 elements, 128x128, 100 epochs on all images (TraDy and MeDyate, table 1).
PUBLISHED = {"Sparse Update 49kb": 91.00, "random": 90.76, "TraDy": 91.34, "MeDyate": 91.38, "dense": 93.71}


def _read(name: str) -> dict:
    return msgspec.json.decode((RESULTS / f"{name}.json").read_bytes())


def main_job() -> str:
    """The main job: one row a run."""
    rows = [
        "| run (CIFAR-10, 10,000 images) | before | after | total RAM, worst case | kept for backward | time |",
        "|---|---|---|---|---|---|",
    ]
    for name, record in _read("main_job").items():
        ledger, epochs = record["ledger"], len(record["epochs"])
        before, after = 100 * record["accuracy_before"], 100 * record["accuracy"]
        rows.append(
            f"| {name}, {epochs} epochs | {before:.1f} % | **{after:.1f} %** | {ledger['worst_total_bytes']:,} B "
            f"| {ledger['saved_bytes']:,} B | {record['seconds']:.0f} s |"
        )
    return "\n".join(rows)


def compare_methods() -> str:
    """Every method under the same selection bytes: mean and standard deviation over the seeds."""
    rows = [
        "| method | accuracy | selection | kept for backward | time | published, full recipe |",
        "|---|---|---|---|---|---|",
    ]
    for row in _read("compare_methods")["rows"]:
        ledger, seeds = row["ledger"], len(row["runs"])
        accuracy = f"{100 * row['accuracy_mean']:.2f} ± {100 * row['accuracy_std']:.2f} % ({seeds} seeds)"
        rows.append(
            f"| {row['method']} | {accuracy} | {ledger['selection_bytes']:,} B | {ledger['saved_bytes']:,} B "
            f"| {row['seconds_mean']:.0f} s | {PUBLISHED.get(row['method'], '')} |"
        )
    return "\n".join(rows)


def step_cost() -> str:
    """What a step costs beside stock PyTorch."""
    tables = _read("step_cost")["tables"]
    rows = ["| step | batch 1 | batch 32 | kept at batch 1 |", "|---|---|---|---|"]
    for name, row in tables[0]["rows"].items():
        ratios = " | ".join(f"{t['rows'][name]['ratio_to_dense']:.2f}" for t in tables)
        rows.append(f"| {name} | {ratios} | {row['kept_bytes']:,} B |")
    return "\n".join(rows)


def c_step() -> str:
    """A step of C beside those of others: milliseconds, and how many times as long as the first in the row."""
    names = {
        "backend c": "`finetune --backend c`",
        "exported": "exported",
        "PyTorch": "PyTorch",
        "ONNX Runtime": "ONNX Runtime training 1.19.2",
    }
    results = _read("c_step")["results"]
    lines = {
        "all layers": results["dense"]["step"],
        "the last 22 layers": results["last 22 layers"]["step"],
        "nothing: forward": results["dense"]["forward"],
    }
    rows = [f"| trained | {' | '.join(names.values())} |", "|---|---|---|---|---|"]
    rows += [f"| {name} | {' | '.join(_took(found, who) for who in names)} |" for name, found in lines.items()]
    return "\n".join(rows)


def _took(found: dict[str, dict[str, float]], who: str) -> str:
    times = found["milliseconds"]
    if who not in times:
        return ""
    again = "" if who == next(iter(times)) else f", {found['ratio'][who]:.1f} times"
    return f"{times[who]:.1f} ms{again}"


def emulated() -> str:
    """ImageNet networks that learn on an emulated board: run plainly, and streamed."""
    cases = {
        "MCUNet-in2 at 80x80, person or not": "emulated_vww",
        "MobileNetV2-w0.35 at 128x128, CIFAR-10": "emulated_streamed",
    }
    columns = [_emulated(next(iter(_read(name)["boards"].values()))) for name in cases.values()]
    rows = [f"| mps2-an386 (Cortex-M4F), RAM limit 262,144 B | {' | '.join(cases)} |", "|---|---|---|"]
    return "\n".join([*rows, *(f"| {row} | {' | '.join(column[row] for column in columns)} |" for row in columns[0])])


def _emulated(found: dict) -> dict[str, str]:
    loss, counts = found["loss"], found["instructions"]
    quarter = len(loss) // 4
    first, last = sum(loss[:quarter]) / quarter, sum(loss[-quarter:]) / quarter
    rest = found["ram_bytes"] - found["arena_bytes"] - found["stack_bytes"]
    return {
        "accuracy before and after": f"{found['accuracy_before']:.1%} → **{found['accuracy_after']:.1%}**",
        "training steps, test images": f"{len(loss)}, {found['n_test']}",
        "channels chosen anew": f"{found['phases']['redraw']['calls']} time, {counts['redraw'] / 1e6:.1f} M instructions",
        "loss, first and last quarter of the steps": f"{first:.3f} → {last:.3f}",
        "RAM: arena, other data, stack (used)": f"{found['arena_bytes']:,} + {rest:,} + {found['stack_bytes']:,} "
        f"({found['stack_high_water_bytes']:,}) B",
        "flash: code and weights": f"{found['text_bytes']:,} B",
        "instructions: forward, training step": f"{counts['forward'] / 1e6:.1f} M, {counts['step'] / 1e6:.1f} M",
        "hash of the trained weights, also of the same C on a PC": found["weights_hash"],
    }


def every_method() -> str:
    """Every policy and way of keeping on two data sets, those of the first ordered by their accuracy."""
    data: dict[str, dict[str, dict]] = {}
    for row in _read("every_method")["rows"]:
        data.setdefault(row["data"], {})[row["method"]] = row
    first, second = data.values()
    rows = [
        "| method | CIFAR-10 | Flowers-102 | rate | kept for backward | total RAM, worst case |",
        "|---|---|---|---|---|---|",
    ]
    for method, row in sorted(first.items(), key=lambda item: -item[1]["accuracy_mean"]):
        kept, worst = row["ledger"]["saved_bytes"], row["ledger"]["worst_total_bytes"]
        accuracies = " | ".join(_spread(one[method]) for one in (first, second))
        rows.append(f"| {method} | {accuracies} | {row['lr']:g} | {kept:,} B | {worst:,} B |")
    return "\n".join(rows)


def _spread(row: dict) -> str:
    return f"{100 * row['accuracy_mean']:.1f} ± {100 * row['accuracy_std']:.1f} %"


def combinations() -> str:
    """Combinations at equal ``total`` bytes: one column a data set."""
    cells: dict[str, dict[str, dict]] = {}
    for row in _read("combinations")["rows"]:
        cells.setdefault(row["combination"], {})[row["data"]] = row
    rows = ["| | CIFAR-10, 256 KiB total | Flowers-102, 384 KiB total |", "|---|---|---|"]
    for name, found in cells.items():
        sides = ["x".join(map(str, row["runs"][0]["recipe"]["input"][1:])) for row in found.values()]
        texts = [f"{_spread(row)} at {side}" for row, side in zip(found.values(), sides, strict=True)]
        rows.append(f"| {name} | {' | '.join(texts)} |")
    return "\n".join(rows)


def dgsu_system() -> str:
    """DGSU as a whole: one row for each choice and schedule, seeds together."""
    groups: dict[str, list[dict]] = {}
    for name, record in _read("dgsu_system").items():
        groups.setdefault(name.partition(", seed")[0], []).append(record)
    rows = [
        "| channels | epochs | accuracy | weights per step | kept inputs | total RAM, worst case |",
        "|---|---|---|---|---|---|",
    ]
    for name, records in groups.items():
        last = [record["accuracies"][-1] for record in records]
        spread = f" ± {100 * stdev(last):.2f}" if len(last) > 1 else ""
        row, shares = records[0]["row"], records[0]["memory"]
        images = "" if "images" in name else f", {row['images']:,} images"
        rows.append(
            f"| {name}{images} | {row['epochs']} | {100 * mean(last):.2f}{spread} % | {shares['weights_share']:.2%} "
            f"| {shares['features_share']:.2%} | {shares['worst_total_bytes']:,} B |"
        )
    return "\n".join(rows)


TABLES = {
    "main_job": main_job,
    "compare_methods": compare_methods,
    "step_cost": step_cost,
    "c_step": c_step,
    "emulated": emulated,
    "every_method": every_method,
    "dgsu_system": dgsu_system,
    "combinations": combinations,
}


def with_tables(text: str) -> str:
    """``text`` with every table between its markers made anew."""
    for name, table in TABLES.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        if begin in text:
            head, rest = text.split(begin)
            text = head + begin + table() + "\n" + end + rest.split(end)[1]
    return text


def draw(path: Path) -> None:
    """MCUNet inside 256 KiB: what lives at each step of one training step."""
    import matplotlib
    import torch

    matplotlib.use("agg")
    from matplotlib import pyplot

    from kilotune import Budget, Selector, capture, models
    from kilotune.memory.accounting import Accounting
    from kilotune.policies import make

    graph = capture(models.create("mcunet_in1", classes=10, folded=True), torch.zeros(1, 3, 128, 128))
    firmware = Accounting(streamed=True, program_bytes=4096)
    selector = Selector.fit(graph, make("medyate"), Budget.parse("256KiB"), accounting=firmware)
    plan, layout = selector.draw(), selector.layout
    report = layout.report(plan)
    steps = np.arange(len(layout.timeline.names))
    parts = {kind: np.zeros(len(steps)) for kind in KINDS}
    for buffer in layout.arena.buffers:
        parts[buffer.kind][buffer.first : buffer.last + 1] += buffer.nbytes
    parts["kept channels"] = layout.stack(plan)
    parts["free below the stack"] = layout.arena.extent - layout.arena.live
    resident = {k: v for k, v in report.by_kind.items() if v and k not in (*KINDS, "kept", "fragmentation")}
    parts = {"trained weights, gradients, norms, program": np.full(len(steps), sum(resident.values())), **parts}
    parts = {name: values for name, values in parts.items() if values.any()}
    figure, axes = pyplot.subplots(figsize=(11, 3.4), layout="constrained")
    axes.stackplot(steps, *(values / 1024 for values in parts.values()), labels=list(parts), step="post")
    axes.axhline(256, color="black", linestyle="--", linewidth=1)
    axes.text(len(steps) - 1, 258, "budget 256 KiB", ha="right", va="bottom")
    axes.axvline(layout.timeline.loss_at, color="gray", linewidth=1)
    axes.text(layout.timeline.loss_at, 180, " loss", color="gray")
    axes.set(xlabel="operation (forward, loss, backward)", ylabel="KiB of RAM", ylim=(0, 290), xlim=(0, len(steps) - 1))
    axes.set_title("A training step of MCUNet-in1 at 128x128, streamed, MeDyate: the worst of all draws below the line")
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1), fontsize=8)
    path.parent.mkdir(exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    for page in PAGES:
        page.write_text(with_tables(page.read_text()))
    draw(PICTURE)
