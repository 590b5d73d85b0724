"""Does each command of `graphc` do what it says, and are mistakes one message instead of a
traceback?
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from places import run_python

import graphc as gx
from graphc import bench, cli, doctor


@pytest.fixture
def graph_file(tmp_path: Path) -> str:
    x = gx.vector("x", "n")
    path = tmp_path / "cost.graph"
    gx.save(path, [gx.sum(gx.tanh(x) ** 2)])
    return str(path)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out.strip() == gx.__version__


@pytest.mark.parametrize("arguments", [[], ["dance"], ["demo", "--epochs", "many"]])
def test_wrong_usage_is_explained(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        cli.main(arguments)
    assert left.value.code == 2
    assert "usage: graphc" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("text", "tanh("),
        ("dot", "digraph"),
        ("svg", "<svg"),
        ("latex", r"\tanh"),
        ("html", "<table>"),
    ],
)
def test_show(
    graph_file: str, form: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["show", graph_file, "--format", form]) == 0
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    ("emitted", "expected"),
    [
        ("report", "kernels: "),
        ("llvm", "define "),
        ("assembly", "ret"),
        ("cuda", "__global__"),
        ("c", "static void"),
    ],
)
def test_compile(
    graph_file: str, emitted: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compile", graph_file, "--emit", emitted]) == 0
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize("command", ["show", "compile"])
def test_a_file_that_is_missing_or_foreign(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    foreign = tmp_path / "foreign.graph"
    foreign.write_bytes(b"not a graph")
    for path in (tmp_path / "missing.graph", foreign):
        assert cli.main([command, str(path)]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"graphc {command}: ")
        assert path.name in error
        assert len(error.splitlines()) <= 8


def test_doctor_names_versions_and_cache(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    facts = dict(line.split("  ", 1) for line in capsys.readouterr().out.splitlines())
    assert facts["graphc"].strip().startswith(gx.__version__)
    assert facts["numpy"].strip() == np.__version__
    assert facts["calls"].strip() == "native" or "because" in facts["calls"]
    assert {f"extra {name}" for name in doctor._EXTRAS} <= set(facts)


def test_doctor_says_why_the_cache_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from graphc.runtime.cache import Cache

    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert "cannot be written" in doctor._cache(Cache(blocked))
    assert "cannot be written" not in doctor._cache(Cache(tmp_path / "free"))
    assert doctor._cache(None).startswith("none")


def test_interleaved_takes_turns() -> None:
    turns: list[str] = []
    mine, other, ratio = bench.interleaved(
        lambda: turns.append("a"), lambda: turns.append("b"), rounds=3, calls=2
    )
    assert turns == ["a", "a", "b", "b"] * 3
    assert mine > 0
    assert other > 0
    assert ratio > 0


def test_bench_compares_functions_that_agree() -> None:
    """A ratio means nothing if the two do not compute the same.

    In norm: where rounding decides on the sign of a value, relu passes it in one and not in the
    other.
    """
    for _, ours, theirs, *_ in (*bench._calls(), bench._training_step()):
        got, want = ours(), theirs()
        if not isinstance(want, tuple):
            got, want = [got], [want]
        for a, b in zip(got, want, strict=True):
            assert np.linalg.norm(np.subtract(a, b)) <= 0.02 * np.linalg.norm(b)


def test_the_module_is_the_command(tmp_path: Path) -> None:
    assert run_python("-m", "graphc", "--version", folder=tmp_path).strip() == gx.__version__
