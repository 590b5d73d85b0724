"""What is found again in the cache, by whom, and what happens when it cannot be used?

Two levels: plans by graph, objects by text. Every test runs new processes, since a process also
remembers what it has loaded. What came from where is read from the phases that a Function records.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from places import run_python

import graphc
import graphc.codegen
import graphc.runtime

# Prints the phases of compiling, with how often each ran, and a value.
_COMPILE = """
import json, sys
import numpy as np
import graphc as gx
from collections import Counter
choices = json.loads(sys.argv[1])
name, extent = choices.pop("name", "x"), choices.pop("extent", "n")
scale, dtype = choices.pop("scale", 2.0), choices.pop("dtype", "float64")
donate, strided = choices.pop("donate", False), choices.pop("strided", False)
for _ in range(choices.pop("lines", 0)):
    pass
x = gx.symbol(name, (extent, 3), dtype)
w = gx.constant(np.arange(9).reshape(3, 3) / 8, dtype)
rows = gx.scan(lambda s, a: (gx.tanh(s @ w) + a, s), gx.zeros(3, dtype), x)[1]
f = gx.compile([x], [gx.softmax(rows) * scale + x], options=gx.Options(**choices),
               donate=[x] if donate else [])
array = np.arange(12.0).reshape(4, 3).astype(dtype)
value = f(np.asfortranarray(array) if strided else array)[0]
print(json.dumps([Counter(phase for phase, _, _ in f.recorder.events), value.tolist()]))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty place for caches that every new process uses."""
    for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def compiled(folder: Path, **choices: Any) -> tuple[dict[str, int], Any]:
    """The phases of compiling in a new process, and the value that came out."""
    phases, value = json.loads(run_python("-c", _COMPILE, json.dumps(choices), folder=folder))
    return phases, value


def is_hit(phases: dict[str, int]) -> bool:
    """Whether the plan came from the cache: nothing was rewritten, lowered, printed or compiled."""
    return not phases.keys() & {"rewrite", "lower", "print", "codegen", "passes", "plan store"}


def entries(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file() and p.stat().st_size > 100)


def test_a_second_process_finds_the_plan_and_the_objects(folder: Path) -> None:
    cold, value = compiled(folder)
    assert cold.keys() >= {"rewrite", "lower", "print", "codegen", "plan store"}
    before = entries(folder)
    warm, again = compiled(folder)
    assert is_hit(warm) and again == value
    assert entries(folder) == before


@pytest.mark.parametrize("seed", ["0", "1", "77"])
def test_hash_seeds_do_not_matter(folder: Path, monkeypatch: pytest.MonkeyPatch, seed: str) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "12345")
    _, value = compiled(folder)
    monkeypatch.setenv("PYTHONHASHSEED", seed)
    warm, again = compiled(folder)
    assert is_hit(warm) and again == value


@pytest.mark.parametrize(
    "renamed", [{"name": "another"}, {"extent": "batch"}, {"extent": "d7", "name": "d0"}]
)
def test_other_names_find_the_same_plan(folder: Path, renamed: dict[str, Any]) -> None:
    _, value = compiled(folder)
    warm, again = compiled(folder, **renamed)
    assert is_hit(warm) and again == value


@pytest.mark.parametrize(
    "changed",
    [
        {"scale": 2.5},
        {"dtype": "float32"},
        {"extent": 4},
        {"math": "real"},
        {"opt_level": 1},
        {"threads": 1},
        {"exclude": []},
        {"donate": True},
    ],
)
def test_what_changes_the_code_is_part_of_the_key(folder: Path, changed: dict[str, Any]) -> None:
    compiled(folder, threads=3)
    if "exclude" in changed:
        from graphc.rewrite import RULES

        changed = {"exclude": [sorted(RULES)[0]]}
    phases, _ = compiled(folder, **({"threads": 3} | changed))
    assert not is_hit(phases)


def test_a_strided_variant_has_a_plan_of_its_own(folder: Path) -> None:
    _, value = compiled(folder)
    cold, strided = compiled(folder, strided=True)
    assert not is_hit(cold) and strided == value
    warm, strided = compiled(folder, strided=True)
    assert is_hit(warm) and strided == value


def test_no_cache_if_none_is_wanted(folder: Path) -> None:
    compiled(folder, cache=False)
    before = entries(folder)
    phases, _ = compiled(folder, cache=False)
    assert not is_hit(phases)
    assert entries(folder) == before


_IMPORTED = """
import sys
import numpy as np
import graphc as gx
x = gx.vector("x", 3)
print(gx.compile([x], gx.tanh(x) @ x)(np.ones(3)))
heavy = {"graphc.codegen.lower", "graphc.codegen.gemm.driver", "graphc.rewrite"}
print(len(heavy & sys.modules.keys()))
"""


def test_a_hit_imports_nothing_that_makes_plans(folder: Path) -> None:
    made, found = _run(folder, _IMPORTED), _run(folder, _IMPORTED)
    assert made[0] == found[0]
    assert made[1] == "3" and found[1] == "0"


def damage_half(content: bytes) -> bytes:
    return content[: len(content) // 2]


DAMAGE = {
    "empty": lambda content: b"",
    "cut": damage_half,
    "one bit": lambda content: content[:-40] + bytes([content[-40] ^ 16]) + content[-39:],
    "zeros": lambda content: bytes(len(content)),
    "foreign": lambda content: b"PK\x03\x04 something else altogether" * 50,
    "text": lambda content: b"<html>",
    "doubled": lambda content: content + content,
}


@pytest.mark.parametrize(
    "damage",
    [
        name if name in ("empty", "one bit") else pytest.param(name, marks=pytest.mark.slow)
        for name in DAMAGE
    ],
)
def test_damaged_entries_are_rebuilt(folder: Path, damage: str) -> None:
    _, value = compiled(folder)
    for path in entries(folder):
        path.write_bytes(DAMAGE[damage](path.read_bytes()))
    phases, again = compiled(folder)
    assert not is_hit(phases) and again == value
    warm, again = compiled(folder)
    assert is_hit(warm) and again == value


def test_entries_under_each_others_names_are_rebuilt(folder: Path) -> None:
    _, value = compiled(folder)
    paths = entries(folder)
    contents = [path.read_bytes() for path in paths]
    for path, content in zip(paths, [*contents[1:], contents[0]], strict=True):
        path.write_bytes(content)
    phases, again = compiled(folder)
    assert not is_hit(phases) and again == value


_FORGE = """
import sys
from graphc.runtime.engine import engine
store, key, kind = engine().cache, sys.argv[1], sys.argv[2]
held = store.get(key)
assert held is not None
import json, pickle
if kind == "garbage":
    store.put(key, b"a sound entry that is no plan")
elif kind == "object":
    store.put(key, b"\\x7fELF" + bytes(1000))
elif kind == "pickle":
    store.put(key, pickle.dumps([object()]))
else:
    line, _, rest = held.partition(b"\\n")
    head = json.loads(line)
    if kind == "format":
        head["format"] = -1
    else:
        del head["modules"]
    store.put(key, json.dumps(head).encode() + b"\\n" + rest)
"""

_KEY = """
import sys
import numpy as np
import graphc as gx
from graphc.runtime import plan
kept = plan.plan_key
def plan_key(*args):
    key = kept(*args)
    print("key", key)
    return key
from graphc.runtime import compile as compiling
compiling.plan_key = plan_key
x = gx.symbol("x", ("n",))
f = gx.compile([x], [gx.tanh(x) * 2 + gx.sum(x)])
print("value", f(np.arange(3.0))[0].tolist(), "rewrite" in f.recorder.phases())
"""


@pytest.mark.parametrize(
    "kind",
    [
        "garbage",
        "object",
        "format",
        "member",
        "pickle",
    ],
)
def test_sound_entries_that_hold_something_else(folder: Path, kind: str) -> None:
    """Their checksums are right: another version of graphc, or somebody else, wrote them."""
    key, value = (line.split(maxsplit=1)[1] for line in _run(folder, _KEY))
    run_python("-c", _FORGE, key, kind, folder=folder)
    assert _run(folder, _KEY) == [f"key {key}", f"value {value}"]
    again = value.replace("True", "False")
    assert _run(folder, _KEY) == [f"key {key}", f"value {again}"]


def _run(folder: Path, script: str) -> list[str]:
    return run_python("-c", script, folder=folder).strip().splitlines()


@pytest.mark.skipif(sys.platform == "win32", reason="permissions of POSIX")
def test_a_folder_that_cannot_be_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may write everywhere, so a file stands where the folder should be."""
    (folder / "cache").write_text("in the way")
    first, value = compiled(folder)
    second, again = compiled(folder)
    assert not is_hit(first) and not is_hit(second) and again == value


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_folder_that_may_only_be_read(folder: Path) -> None:
    _, value = compiled(folder)
    for path, _, _ in os.walk(folder / "cache"):
        os.chmod(path, 0o500)
    try:
        warm, again = compiled(folder)
        other, _ = compiled(folder, scale=7.0)
    finally:
        for path, _, _ in os.walk(folder / "cache"):
            os.chmod(path, 0o700)
    assert is_hit(warm) and again == value and not is_hit(other)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the convention of Linux")
def test_the_folder_follows_the_convention(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled(folder)
    assert list((folder / "cache").rglob("*")) and not (folder / ".cache").exists()
    monkeypatch.delenv("XDG_CACHE_HOME")
    phases, _ = compiled(folder)
    assert not is_hit(phases) and list((folder / ".cache").rglob("*"))


def test_an_error_names_the_line_also_when_the_plan_was_found(folder: Path) -> None:
    """What the message needs is not in the plan: it is worked out when it is asked for."""
    script = """
import numpy as np
import graphc as gx
x, i = gx.vector("x", "n"), gx.vector("i", "m", "int64")
y = gx.take(x, i)
f = gx.compile([x, i], [gx.check(y, y > 0, "positive")])
for arrays in (([1.0], [3]), ([-1.0], [0])):
    try:
        f(*arrays)
    except (IndexError, ValueError) as error:
        print(" ".join(str(error).split()))
"""
    path = folder / "model.py"
    path.write_text(script)
    first, second = (run_python(str(path), folder=folder) for _ in range(2))
    assert first == second and first.count("model.py") == 2
    path.write_text("#\n" + script)
    assert f"{path}:6" in run_python(str(path), folder=folder)


# A package whose files change while a process that has loaded them goes on to compile.
_EDITED = """
import os, sys
sys.path.insert(0, sys.argv[1])
import graphc
import graphc as gx
import graphc.codegen.extents, graphc.runtime.compile
from pathlib import Path
assert Path(graphc.codegen.extents.__file__).is_relative_to(sys.argv[1])
if sys.argv[2] == "edited":
    with open(graphc.codegen.extents.__file__, "a") as file:
        file.write("\\n# other code\\n")
x = gx.symbol("x", ("n",), "float64")
f = gx.compile([x], x * 3.0)
assert f([1.0])[0] == 3.0
print(*{phase for phase, _, _ in f.recorder.events}, sep=",")
"""


def test_a_plan_is_not_kept_under_the_name_of_other_code(folder: Path) -> None:
    """What a process of the old code kept, one of the new code found, with other slots in it."""
    copy = folder / "copy"
    for package in (graphc, graphc.codegen, graphc.runtime):
        source = Path(package.__path__[0])
        if not (copy / "graphc" / source.name).exists():  # installed, they lie within the first
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, copy / source.name, ignore=ignored)
    time.sleep(2.5)  # as old as files are that nobody is editing

    def phases(what: str) -> set[str]:
        said = run_python("-c", _EDITED, str(copy), what, folder=folder)
        return set(said.strip().split(","))

    assert "plan store" not in phases("edited")
    time.sleep(2.5)
    assert "plan store" in phases("untouched")
    assert is_hit(dict.fromkeys(phases("untouched"), 1))


_STORY = """
import sys
import graphc as gx
x = gx.vector("x", 7)
f = gx.compile([x], gx.tanh(x) * 3.0, options=gx.Options(math=sys.argv[1]), name="mine")
print(f.report().plan)
"""


def test_a_miss_is_explained(folder: Path) -> None:
    """By the report of a Function, and of the last one by `graphc doctor`."""

    def story(math: str) -> str:
        return run_python("-c", _STORY, math, folder=folder).strip()

    def doctor() -> str:
        return run_python("-m", "graphc", "doctor", folder=folder)

    assert "none that the cache knows of" in doctor()
    assert "not compiled before" in story("ieee")
    assert "mine: this graph was not compiled before" in doctor()
    assert story("ieee") == "from the cache"
    assert story("real") == "made anew: Options.math was ieee, is real"
    assert "mine: Options.math was ieee, is real" in doctor()
