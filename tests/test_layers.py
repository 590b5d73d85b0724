"""Does every import point down?

Core, then ops, then derivatives and rewriting, then code generation, then the runtime, then what
drives them all. An import at the head of a module must stay in its room or go down; one inside a
function may go up where the table below says so, with the reason, and nowhere else. `nn`, `optim`
and `interop` are written as a third party would write them. Importing graphc loads NumPy and
nothing heavier.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from places import PACKAGE, ROOT, run_python

import graphc

# Rooms from the bottom up. A module that is not named belongs to the room of its package.
ROOMS = ("core", "ops", "transform", "codegen", "runtime", "drive")
ROOM_OF = {
    **dict.fromkeys(("graphc", "graphc._checkout", "graphc._version"), "core"),
    **dict.fromkeys(
        [
            f"graphc.{name}"
            for name in (
                *(
                    "collector",
                    "dims",
                    "dtypes",
                    "errors",
                    "evaluator",
                    "graph",
                    "graphfile",
                    "loading",
                    "lowering",
                    "node",
                ),
                *("collector", "op", "options", "origin", "request", "signature", "tensor"),
                *("arguments", "callers", "protocols", "tracing", "tree", "types", "unknown"),
                "weak",
            )
        ],
        "core",
    ),
    "graphc.ops": "ops",
    **dict.fromkeys(
        [
            f"graphc.{name}"
            for name in ("autodiff", "batching", "display", "implicit", "interop", "rewrite")
        ],
        "transform",
    ),
    "graphc.codegen": "codegen",
    "graphc.runtime": "runtime",
    **dict.fromkeys(
        [
            f"graphc.{name}"
            for name in (
                *(
                    "__main__",
                    "array_api",
                    "bench",
                    "cli",
                    "demo",
                    "doctor",
                    "emission",
                    "function",
                    "jitted",
                    "linalg",
                    "nn",
                    "op_check",
                    "optim",
                    "random",
                    "specialize",
                    "substitutes",
                ),
            )
        ],
        "drive",
    ),
}
# Rooms that are beside each other: neither may look at the other, even inside a function.
APART = {
    ("graphc.ops", "graphc.autodiff"),
    ("graphc.ops", "graphc.rewrite"),
    ("graphc.autodiff", "graphc.rewrite"),
    ("graphc.rewrite", "graphc.autodiff"),
    ("graphc.display", "graphc.autodiff"),
    ("graphc.display", "graphc.rewrite"),
    ("graphc.display", "graphc.codegen"),
    ("graphc.display", "graphc.runtime"),
    ("graphc.ops", "graphc.codegen"),
    ("graphc.autodiff", "graphc.codegen"),
    ("graphc.rewrite", "graphc.codegen"),
    ("graphc.codegen", "graphc.runtime"),
}
# Imports inside functions that go up, and why.
LAZY_UP = {
    ("graphc.node", "graphc.display"): "printing a node",
    ("graphc.loading", "graphc.ops"): "the tables of ops fill themselves",
    ("graphc.evaluator", "graphc.ops"): "values that are no nodes become constants",
    ("graphc.graph", "graphc.ops"): "values that are no nodes become constants",
    ("graphc.request", "graphc.ops"): "values that are no nodes become constants",
    ("graphc.tensor", "graphc.ops"): "operators look functions up",
    ("graphc.protocols", "graphc.ops"): "refusals list the whole surface",
    ("graphc.weak", "graphc.ops"): "an extent as a value is a node",
    ("graphc.autodiff.coloring", "graphc.function"): "columns are coloured by a Function",
}
# What a third party may import.
PUBLIC = ("graphc", "graphc.errors", "graphc.origin", "graphc.tree", "graphc.types")
THIRD_PARTY = {
    "graphc.nn": ("graphc.nn",),
    "graphc.optim": ("graphc.optim",),
    "graphc.interop": ("graphc.interop", "graphc.display"),  # names nodes as printing does
}
# What may be loaded at the head of a module, beyond the standard library and graphc itself.
HEAVY = {
    "graphc": {"numpy"},
    "graphc.codegen": {"numpy", "llvmlite"},
    "graphc.runtime": {"numpy", "llvmlite"},
}


def folder(package: str) -> Path:
    """Where a package lies: inside of graphc when installed, beside it in a checkout."""
    inside = PACKAGE / package
    return inside if inside.is_dir() else ROOT / package


def modules() -> dict[str, Path]:
    """Every module of graphc and its file."""
    found: dict[str, Path] = {}
    places = [
        ("graphc", PACKAGE),
        ("graphc.codegen", folder("codegen")),
        ("graphc.runtime", folder("runtime")),
    ]
    for name, base in places:
        for file in base.rglob("*.py"):
            parts = file.relative_to(base).with_suffix("").parts
            found[".".join((name, *(p for p in parts if p != "__init__")))] = file
    return found


MODULES = modules()


class Import:
    """`module` is imported by `user`, at the head of it or `lazy`."""

    def __init__(self, user: str, module: str, lazy: bool, line: int) -> None:
        self.user, self.module, self.lazy, self.line = user, module, lazy, line

    def __str__(self) -> str:
        return f"{MODULES[self.user]}:{self.line}: {self.user} imports {self.module}"


def imports(user: str) -> Iterator[Import]:
    """The imports of a module, those for type checking aside."""
    stack: list[tuple[ast.AST, bool]] = [(ast.parse(MODULES[user].read_text()), False)]
    while stack:
        node, lazy = stack.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(user, alias.name, lazy, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{user}: imports are absolute"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield Import(user, full if full in MODULES else base, lazy, node.lineno)
        inner = lazy or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        stack.extend((child, inner) for child in ast.iter_child_nodes(node))


ALL_IMPORTS = [found for user in MODULES for found in imports(user)]
OURS = [found for found in ALL_IMPORTS if found.module.split(".")[0] == "graphc"]


def belongs(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def room(module: str) -> int:
    """The height of the room of a module."""
    parts = module.split(".")
    while parts:
        name = ".".join(parts)
        if name in ROOM_OF and (name != "graphc" or module == "graphc"):
            return ROOMS.index(ROOM_OF[name])
        parts.pop()
    raise AssertionError(f"{module} is in no room: enter it in ROOM_OF")


def third_party(module: str) -> bool:
    return any(belongs(module, package) for package in THIRD_PARTY)


def test_every_module_is_in_a_room() -> None:
    assert len(MODULES) > 60
    for module in MODULES:
        assert 0 <= room(module) < len(ROOMS)


def test_imports_at_the_head_go_down() -> None:
    wrong = [
        str(found)
        for found in OURS
        if not found.lazy and not third_party(found.user) and room(found.module) > room(found.user)
    ]
    assert not wrong, "\n".join(wrong)


def test_lazy_imports_that_go_up_are_known() -> None:
    def is_known(found: Import) -> bool:
        return any(found.user == user and belongs(found.module, up) for user, up in LAZY_UP)

    up = [f for f in OURS if f.lazy and room(f.module) > room(f.user) and not third_party(f.user)]
    up = [f for f in up if f.user != "graphc"]  # its __getattr__ serves everything
    wrong = [str(found) for found in up if not is_known(found)]
    assert not wrong, "\n".join(wrong)


def test_rooms_side_by_side_do_not_look_at_each_other() -> None:
    wrong = [
        str(found)
        for found in OURS
        if any(belongs(found.user, one) and belongs(found.module, other) for one, other in APART)
    ]
    assert not wrong, "\n".join(wrong)


def test_graphc_reaches_codegen_and_runtime_inside_functions_only() -> None:
    halves = ("graphc.codegen", "graphc.runtime")
    wrong = [
        str(found)
        for found in OURS
        if not found.lazy
        and any(belongs(found.module, half) for half in halves)
        and not any(belongs(found.user, half) for half in halves)
    ]
    assert not wrong, "\n".join(wrong)


def test_layers_for_users_use_public_names() -> None:
    for found in OURS:
        for package, own in THIRD_PARTY.items():
            if belongs(found.user, package):
                public = found.module in PUBLIC or any(belongs(found.module, name) for name in own)
                assert public, str(found)


def test_the_head_of_a_module_loads_nothing_heavy() -> None:
    for found in ALL_IMPORTS:
        top = found.module.split(".")[0]
        if found.lazy or top == "graphc" or top in sys.stdlib_module_names:
            continue
        half = next(
            (h for h in ("graphc.codegen", "graphc.runtime") if belongs(found.user, h)), "graphc"
        )
        assert top in HEAVY[half], str(found)


def test_no_import_by_the_bare_names() -> None:
    """`import codegen` would load a second copy, with a second registry."""
    for found in ALL_IMPORTS:
        assert found.module.split(".")[0] not in ("codegen", "runtime"), str(found)


# -- in a fresh interpreter ------------------------------------------------------------------------


def test_import_is_light(tmp_path: Path) -> None:
    """Writing, differentiating, rewriting and evaluating need NumPy only."""
    code = """
import sys
import graphc as gx
assert 'graphc.ops' not in sys.modules, 'loaded at first use'
assert 'graphc.codegen' not in sys.modules, 'loaded at first use'
x = gx.vector('x', 3)
cost = gx.sum(gx.tanh(x) ** 2)
text = str(gx.grad(cost, x))
gx.evaluate(cost, {x: [1.0, 2.0, 3.0]})
gx.rewrite.rewrite([cost])
heavy = {'llvmlite', 'sympy', 'networkx', 'scipy', 'rich', 'hypothesis', 'pytest'}
print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))
"""
    assert run_python("-c", code, folder=tmp_path).strip() == "[]"


def test_ops_are_loaded_when_they_are_asked_for(tmp_path: Path) -> None:
    """The first expression loads few modules of ops; a table that is read as a whole loads all."""
    code = """
import sys
import graphc as gx
x = gx.vector('x', 3)
y = -x * 2.0 + 1.0
loaded = [name for name in sys.modules if name.startswith('graphc.ops.')]
assert len(loaded) <= 6, loaded
from graphc.op import REGISTRY, find
from graphc.tensor import SURFACE
assert find('sort').name == 'sort' and 'softmax' in SURFACE and SURFACE.get('nobody') is None
from graphc.ops import MODULES
assert {f'graphc.ops.{name}' for name in MODULES} <= set(sys.modules)
print(len(REGISTRY) > 100 and len(list(SURFACE)) > len(REGISTRY))
"""
    assert run_python("-c", code, folder=tmp_path).strip() == "True"


def test_every_public_name_can_be_the_first(tmp_path: Path) -> None:
    """Whatever is asked for first, in a process that has loaded nothing: no circle of imports, and
    never a module. The functions of the surface are all found in one way: one of them stands for
    all.
    """
    code = """
import sys
import types
import graphc
inner = {'annotations', 'importlib', 'TYPE_CHECKING', 'Any'}
names = [name for name in dir(graphc) if name[0] != '_' and name not in inner]
modules = {n for n in names if isinstance(getattr(graphc, n), types.ModuleType)}
names = [n for n in names if n in graphc._SUBMODULES or n not in modules]
assert len(names) > 90, len(names)
homes = {*graphc._HOMES, *graphc._SUBMODULES}
functions = [name for name in names if name not in homes]
for name in [*(n for n in names if n in homes), functions[0]]:
    for module in [m for m in sys.modules if m.split('.')[0] == 'graphc']:
        del sys.modules[module]
    import graphc
    try:
        found = getattr(graphc, name)
    except Exception as error:
        print(f'{name}: {type(error).__name__}: {error}')
import graphc.evaluator, graphc.function, graphc.rewrite, graphc.runtime
for name in names:
    if isinstance(getattr(graphc, name), types.ModuleType) and name not in graphc._SUBMODULES:
        print(f'{name} is a module')
"""
    assert run_python("-c", code, folder=tmp_path) == ""


def test_names_for_type_checkers_are_the_real_ones() -> None:
    """The imports under TYPE_CHECKING in graphc/__init__.py name what `graphc.<name>` gives, and
    `__all__`, which type checkers take literally, names the same.
    """
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(
        n for n in tree.body if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)
    )
    stated = {"__version__"}
    for statement in block.body:
        assert isinstance(statement, ast.ImportFrom) and statement.module
        module = importlib.import_module(statement.module)
        for alias in statement.names:
            name = alias.asname or alias.name
            assert getattr(graphc, name) is getattr(module, alias.name), name
            stated.add(name)
    assert sorted(stated) == sorted(graphc.__all__)


@pytest.mark.parametrize("half", ["codegen", "runtime"])
def test_a_second_copy_is_refused(half: str, tmp_path: Path) -> None:
    """`import codegen` from the root of a checkout fails with a message that names the right
    import.
    """
    place = str(folder(half).parent)
    code = f"""
import sys
sys.path.insert(0, {place!r})
try:
    import {half}
except ImportError as error:
    print(error)
"""
    assert f"graphc.{half}" in run_python("-c", code, folder=tmp_path)
