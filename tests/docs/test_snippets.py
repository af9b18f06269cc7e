"""Everything the documentation shows is run, and everything it names exists.

Blocks of a page run in order, in one namespace and one empty folder. ``python`` blocks are executed; one that starts
with the comment ``# name.py`` is also written to that file. In ``console`` blocks each line ``$ kilotune ...`` is
called, and the lines shown below it must occur in what it prints, ``...`` standing for lines left out; ``$ echo $?``
shows the exit code, which is 0 where it is not shown. A block that needs data says so (``console needs=cifar10``).
"""

import re
import shlex
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from kilotune.cli.main import app

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
TITLES = [str(page.relative_to(REPOSITORY)) for page in PAGES]

_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE_COMMENT = re.compile(r"# (\w+\.py)\n")
_LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)")
_TEST = re.compile(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`")
_FILE = re.compile(r"`((?:benchmarks|examples|docs|src)/[\w/.*-]+)`")
_NAME = re.compile(
    r"`((?:errors|units|rng|update_plan|graph|models|data|memory|ops|prune|policies|train|report|cli)(?:\.\w+)+)(?:\(\))?`"
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page: language, the data it needs, text, and its first line."""

    language: str
    needs: tuple[str, ...]
    body: str
    line: int


@dataclass
class Command:
    """A line of a ``console`` block with what is shown below it."""

    arguments: list[str]
    shown: list[str] = field(default_factory=list)
    exit_code: int = 0


def blocks(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page, in order."""
    text = page.read_text()
    for match in _FENCE.finditer(text):
        language, *attributes = match["info"].split() or [""]
        needs = [one.removeprefix("needs=") for one in attributes if one.startswith("needs=")]
        line = text.count("\n", 0, match.start("body")) + 1
        yield Block(language, tuple(",".join(needs).split(",")) if needs else (), match["body"], line)


def commands(block: Block) -> Iterator[Command]:
    """The calls of ``kilotune`` in a block; other commands are left alone."""
    current: Command | None = None
    lines = iter(block.body.replace("\\\n", " ").splitlines())
    for line in lines:
        if line == "$ echo $?" and current is not None:
            current.exit_code = int(next(lines))
        elif line.startswith("$ "):
            if current is not None:
                yield current
            program, *arguments = shlex.split(line.removeprefix("$ "))
            current = Command(arguments) if program == "kilotune" else None
        elif current is not None and line.strip() not in ("", "..."):
            current.shown.append(" ".join(line.split()))
    if current is not None:
        yield current


def call(command: Command) -> None:
    """Run one command line in this process and compare it with what the page shows."""
    result = CliRunner().invoke(app, command.arguments)
    what = f"kilotune {shlex.join(command.arguments)}"
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == command.exit_code, f"{what}:\n{result.output}"
    printed = " ".join(result.output.split())
    missing = [line for line in command.shown if line not in printed]
    assert not missing, f"{what} does not print {missing}, it prints:\n{result.output}"


def run(page: Path, block: Block, namespace: dict[str, object]) -> None:
    """Execute a block where its language asks for it."""
    if block.language == "python":
        if comment := _FILE_COMMENT.match(block.body):
            Path(comment[1]).write_text(block.body)
        exec(compile("\n" * (block.line - 1) + block.body, str(page), "exec"), namespace)
    elif block.language == "console":
        for command in commands(block):
            call(command)


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder to work in; modules imported from it are forgotten afterwards. One thread: the models are tiny."""
    monkeypatch.chdir(tmp_path)
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield tmp_path
    torch.set_num_threads(n_threads)
    here = [name for name, module in sys.modules.items() if str(tmp_path) in str(getattr(module, "__file__", ""))]
    for name in here:
        del sys.modules[name]


@pytest.mark.parametrize("page", PAGES, ids=TITLES)
def test_blocks_run(
    page: Path, empty_folder: Path, data_file: Callable[[str], Path], monkeypatch, subtests: pytest.Subtests
):
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language not in ("python", "console"):
            continue
        with subtests.test(f"line {block.line}"):
            for name in block.needs:
                monkeypatch.setenv("KILOTUNE_DATA", str(data_file(name).parents[name.count("/")]))
            run(page, block, namespace)


@pytest.mark.parametrize("page", PAGES, ids=TITLES)
def test_what_is_named_exists(page: Path):
    text = page.read_text()
    broken = [link for link in _LINK.findall(text) if not (page.parent / link).exists()]
    broken += [name for name in _FILE.findall(text) if not list(REPOSITORY.glob(name.rstrip("/")))]
    for path, function in _TEST.findall(text):
        source = REPOSITORY / path
        if not source.exists() or (function and f"def {function}(" not in source.read_text()):
            broken.append(f"{path}::{function}")
    broken += [name for name in _NAME.findall(text) if not _importable(name)]
    assert not broken


def _importable(dotted: str) -> bool:
    """Whether ``dotted`` is a module of kilotune, or reached from one by attributes."""
    parts = dotted.split(".")
    for n_module in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(["kilotune", *parts[:n_module]]))
        except ImportError:
            continue
        for name in parts[n_module:]:
            fields = getattr(found, "__dataclass_fields__", {})
            if not hasattr(found, name) and name not in fields:
                return False
            found = getattr(found, name, None)
        return True
    return False


def test_long_runs_name_their_results():
    """A ``text`` block that shows a command is not run; it says which file its figures come from."""
    silent = [
        f"{title}:{block.line}"
        for title, page in zip(TITLES, PAGES, strict=True)
        for block in blocks(page)
        if block.language == "text" and "$ kilotune " in block.body and "benchmarks/" not in block.body
    ]
    assert not silent


def test_no_shell_block_escapes():
    """Only the languages above, and pictures: a ``bash`` or ``sh`` block would be shown but never run."""
    known = {"python", "console", "text", "json", ""}
    odd = [
        (t, b.line, b.language)
        for t, p in zip(TITLES, PAGES, strict=True)
        for b in blocks(p)
        if b.language not in known
    ]
    assert not odd
