"""The rules of docs/architecture.md that a machine can check, read off every file's syntax tree."""

import ast
import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "kilotune"
MAX_MODULE_LINES, MAX_FUNCTION_LINES = 300, 40
BANNED_NAMES = {"utils", "common", "core", "helpers", "misc"}

# Whoever is on the left may import what is on the right, and all that those may import.
BASE = {"errors", "units", "rng"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "rng": set(),
    "units": {"errors"},
    "update_plan": BASE,
    "graph": {"update_plan"},
    "models": BASE,
    "data": BASE,
    "memory": {"graph"},
    "quant": {"graph"},
    "prune": {"graph"},
    "ops": {"graph"},
    "policies": {"memory"},
    "codegen": {"policies", "quant"},
    "train": {"ops", "policies", "models", "data", "quant", "prune"},
    "deploy": {"train", "codegen"},
    "report": {"deploy"},
    "bench": {"report"},
    "integrations": {"train"},
    "cli": BASE,
    "": BASE,
}
# These start fast: what the table allows holds when they are imported; inside functions they may import anything.
FREE_INSIDE_FUNCTIONS = {"cli", ""}

# Packages without torch, and the only files in them that know it.
TORCH_FREE: dict[str, set[str]] = {
    "errors": set(),
    "units": set(),
    "rng": set(),
    "update_plan": set(),
    "graph": {"graph/capture.py", "graph/known.py"},
    "memory": {"memory/measure.py"},
    "policies": set(),
    "codegen": set(),
}

# Exceptions to the sizes above, each with its reason.
LONG_MODULES: dict[str, str] = {
    "graph/node.py": "one record per kind of node, with its shapes and its costs: a catalogue, read by looking up",
    "graph/lowering.py": "one function per operator of torch.export: a catalogue, read by looking up",
}
LONG_FUNCTIONS: dict[str, str] = {}

# What these do is torch's contract, not ours.
DOCUMENTED_BY_TORCH = {"forward", "backward"}


@dataclass(frozen=True)
class Module:
    """A source file: its path below the package and its syntax tree."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @property
    def dotted(self) -> str:
        return ".".join(["kilotune", *Path(self.path).with_suffix("").parts]).removesuffix(".__init__")

    @property
    def package(self) -> str:
        """The row of MAY_IMPORT it belongs to; "" for kilotune/__init__.py."""
        first = Path(self.path).parts[0]
        return "" if first == "__init__.py" else first.removesuffix(".py")

    def imports(self) -> Iterator[tuple[int, str]]:
        """Line and dotted name of everything imported; for the packages free to do so, not inside functions."""
        lazy = _inside_functions(self.tree) if self.package in FREE_INSIDE_FUNCTIONS else set()
        skipped = lazy | _for_type_checkers(self.tree)
        for node in ast.walk(self.tree):
            if node in skipped:
                continue
            if isinstance(node, ast.Import):
                yield from ((node.lineno, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.path}:{node.lineno}: relative import; write it from kilotune on"
                assert node.module is not None
                yield from ((node.lineno, _imported(node.module, alias.name)) for alias in node.names)

    def functions(self) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
        return (node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _imported(module: str, name: str) -> str:
    """``from kilotune import graph`` imports the package graph, not a name of the root."""
    return f"{module}.{name}" if module == "kilotune" else module


def _inside_functions(tree: ast.Module) -> set[ast.AST]:
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
    return {inner for function in functions for inner in ast.walk(function)}


def _for_type_checkers(tree: ast.Module) -> set[ast.AST]:
    blocks = (node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    return {inner for block in blocks for inner in ast.walk(block)}


MODULES = [
    Module(path.relative_to(SOURCE).as_posix(), path.read_text(encoding="utf-8"))
    for path in sorted(SOURCE.rglob("*.py"))
]
each_module = pytest.mark.parametrize("module", MODULES, ids=[module.path for module in MODULES])


def _reachable(package: str) -> set[str]:
    reached, waiting = set(BASE), {package}
    while waiting:
        below = MAY_IMPORT[waiting.pop()]
        waiting |= below - reached
        reached |= below
    return reached | {package}


def test_the_table_has_no_circles():
    circles = {package for package, below in MAY_IMPORT.items() for lower in below if package in _reachable(lower)}
    assert not circles - BASE


def test_every_package_is_in_the_table():
    assert {module.package for module in MODULES} <= MAY_IMPORT.keys()


@each_module
def test_imports_point_down(module):
    # The version is the one name that everybody may take from the root.
    allowed = _reachable(module.package) | {"__version__"}
    ours = [(line, name.split(".")[1:]) for line, name in module.imports() if name.split(".")[0] == "kilotune"]
    wrong = [f"{module.path}:{line} imports {parts[0]}" for line, parts in ours if parts and parts[0] not in allowed]
    assert not wrong, f"{wrong}; {module.package} may import {sorted(allowed)}"


@each_module
def test_torch_stays_where_it_belongs(module):
    if module.package not in TORCH_FREE or module.path in TORCH_FREE[module.package]:
        return
    wrong = [f"{module.path}:{line}" for line, name in module.imports() if name.split(".")[0] == "torch"]
    assert not wrong, f"{wrong} import torch; in {module.package} only {TORCH_FREE[module.package] or 'nobody'} may"


def _import_in_fresh_interpreter(names: list[str]) -> str:
    """The names of the heavy modules that importing ``names`` brings along."""
    program = f"import sys, {', '.join(names)}; print(*sorted({{'torch', 'matplotlib', 'sklearn'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("name", ["kilotune", "kilotune.cli.main"])
def test_starting_does_not_import_torch(name):
    if name != "kilotune" and importlib.util.find_spec(name) is None:
        pytest.skip(f"needs {name}")
    assert _import_in_fresh_interpreter([name]) == ""


def test_torch_free_packages_do_not_import_torch_through_others():
    names = [m.dotted for m in MODULES if m.package in TORCH_FREE and m.path not in TORCH_FREE[m.package]]
    assert _import_in_fresh_interpreter(names) == ""


@each_module
def test_module_size(module):
    n_lines = len(module.text.splitlines())
    if module.path in LONG_MODULES:
        assert n_lines > MAX_MODULE_LINES, f"{module.path} has {n_lines} lines; take it out of LONG_MODULES"
    else:
        assert n_lines <= MAX_MODULE_LINES, (
            f"{module.path} has {n_lines} lines; split it, or say in LONG_MODULES why not"
        )


@each_module
def test_function_sizes(module):
    # Without the signature, which in a command is the table of its options.
    sizes = {f"{module.path}:{f.name}": (f.end_lineno or 0) - f.body[0].lineno + 1 for f in module.functions()}
    long = {name: n_lines for name, n_lines in sizes.items() if n_lines > MAX_FUNCTION_LINES}
    assert not long.keys() - LONG_FUNCTIONS, f"functions of more than {MAX_FUNCTION_LINES} lines: {long}"


def test_exceptions_are_needed():
    assert LONG_MODULES.keys() <= {module.path for module in MODULES}
    names = {f"{module.path}:{function.name}" for module in MODULES for function in module.functions()}
    assert LONG_FUNCTIONS.keys() <= names


def _undocumented(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None and not (prefix and node.name in DOCUMENTED_BY_TORCH):
            yield prefix + node.name
        if isinstance(node, ast.ClassDef):
            yield from _undocumented(node.body, f"{prefix}{node.name}.")


@each_module
def test_public_names_are_documented(module):
    missing = list(_undocumented(module.tree.body, ""))
    if module.text.strip() and ast.get_docstring(module.tree) is None:
        missing.insert(0, "the module itself")
    assert not missing, f"{module.path}: no docstring on {', '.join(missing)}"


def test_no_file_is_named_after_nothing():
    parts = {part.removesuffix(".py") for module in MODULES for part in Path(module.path).parts}
    assert not parts & BANNED_NAMES
