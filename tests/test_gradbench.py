"""Does the GradBench tool answer as the protocol says, and rightly on all of ADBench's problems?"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from places import PACKAGE, ROOT

sys.path.append(str(ROOT / "tests" / "benchmarks"))
from adbench import DATA, ba, expected, gmm, hand, lstm, only  # noqa: E402

# Those of which no smaller one of the same kind is there.
USUAL = ("gmm_d2_K5", "gmm_d10_K25", "lstm_l2_c1024", "ba1_n49_m7776_p31843")
USUAL += ("simple_hand1_t26_c100", "complicated_hand1_t26_c100")
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"{DATA} is missing")


def files(names: Sequence[str]) -> list[Any]:
    """The usual ones; the others are for the long run."""
    return [n if n in USUAL else pytest.param(n, marks=pytest.mark.slow) for n in names]


class Tool:
    """A running tool, and the number of the next message."""

    def __init__(self) -> None:
        self.number = 0
        self.process = subprocess.Popen(
            [sys.executable, str(ROOT / "examples" / "gradbench.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={"PYTHONPATH": str(PACKAGE.parent), "PATH": "/usr/bin:/bin"},
        )

    def ask(self, **message: Any) -> Any:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(json.dumps({"id": self.number, **message}) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        assert answer.pop("id") == self.number
        self.number += 1
        return answer

    def evaluate(self, module: str, function: str, given: Any) -> Any:
        found = self.ask(kind="evaluate", module=module, function=function, input=given)
        assert found["success"], found["error"]
        return found["output"]


@pytest.fixture(scope="module")
def tool() -> Iterator[Tool]:
    running = Tool()
    yield running
    assert running.process.stdin is not None
    running.process.stdin.close()
    assert running.process.wait(20) == 0


def as_lists(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in values.items()}


def check(got: Any, wanted: Any) -> None:
    wanted = np.asarray(wanted, float)
    error = np.max(np.abs(np.asarray(got, float).reshape(wanted.shape) - wanted), initial=0)
    assert error <= 1e-10 * max(1, np.max(np.abs(wanted), initial=0))


def test_the_conversation(tool: Tool) -> None:
    assert tool.ask(kind="start", eval="gmm") == {"tool": "graphc"}
    assert tool.ask(kind="define", module="gmm") == {"success": True}
    assert not tool.ask(kind="define", module="tea")["success"]
    generator = np.random.default_rng(0)
    given: dict[str, Any] = {"alpha": [0.1, -0.2], "mu": [[0.0], [1.0]], "q": [[0.3], [0.1]]}
    given |= {"l": [[], []], "x": generator.normal(size=(9, 1)).tolist(), "gamma": 1.0, "m": 0}
    given["min_runs"] = 3
    found = tool.ask(kind="evaluate", module="gmm", function="objective", input=given)
    assert [each["name"] for each in found["timings"]].count("evaluate") == 3
    assert all(each["nanoseconds"] > 0 for each in found["timings"])
    values = {k: np.array(given[k], float) for k in (*gmm.PARAMETERS, "x")}
    check(found["output"], gmm.by_hand(**values, gamma=1.0, m=0))
    assert tool.ask(kind="analysis", of=3, valid=True) == {}
    failed = tool.ask(kind="evaluate", module="gmm", function="objective", input={})
    assert not failed["success"] and "KeyError" in failed["error"]


@needs_data
@pytest.mark.parametrize("name", files(gmm.FILES))
def test_gmm(tool: Tool, name: str) -> None:
    values, wanted = as_lists(gmm.read(only("gmm", name))), expected(name)
    check(tool.evaluate("gmm", "objective", values), wanted["objective"])
    gradient = tool.evaluate("gmm", "jacobian", values)
    for each in gmm.PARAMETERS:
        check(gradient[each], wanted[f"grad_{each}"])
    if name == gmm.FILES[0]:  # and in the terms of ADBench
        factors = np.concatenate([values.pop("q"), values.pop("l")], axis=1)
        old = {**values, "d": 2, "means": values["mu"], "icf": factors.tolist()}
        found = tool.evaluate("gmm", "jacobian", old)
        pair = np.concatenate([wanted["grad_q"], wanted["grad_l"]], axis=1)
        parts = (wanted["grad_alpha"], wanted["grad_mu"], pair)
        check(found, np.concatenate([part.ravel() for part in parts]))


@needs_data
@pytest.mark.parametrize("name", files(lstm.FILES))
def test_lstm(tool: Tool, name: str) -> None:
    values, wanted = as_lists(lstm.read(only("lstm", name))), expected(name)
    names = {"main": "main_params", "extra": "extra_params"}
    given = {names.get(k, k): v for k, v in values.items()}
    check(tool.evaluate("lstm", "objective", given), wanted["objective"])
    check(tool.evaluate("lstm", "jacobian", given), wanted["gradient"])


@needs_data
@pytest.mark.parametrize("name", files(ba.FILES))
def test_ba(tool: Tool, name: str) -> None:
    sizes, *lines = only("ba", name).read_text().splitlines()[:5]
    numbers = [[float(word) for word in line.split()] for line in lines]
    given: dict[str, Any] = dict(zip("nmp", map(int, sizes.split()), strict=True))
    given |= {"cam": numbers[0], "x": numbers[1], "w": numbers[2][0], "feat": numbers[3]}
    wanted = expected(name)
    found = tool.evaluate("ba", "objective", given)
    check(found["reproj_error"]["elements"], wanted["objective_reproj_error_elements"])
    assert found["reproj_error"]["repeated"] == wanted["objective_reproj_error_repeated"]
    check(found["w_err"]["element"], wanted["objective_w_err_element"])
    assert found["w_err"]["repeated"] == wanted["objective_w_err_repeated"]
    matrix = tool.evaluate("ba", "jacobian", given)
    assert matrix["rows"] == wanted["jacobian_rows"].tolist()
    assert matrix["cols"] == wanted["jacobian_cols"].tolist()
    check(matrix["vals"], wanted["jacobian_vals"])


@needs_data
@pytest.mark.parametrize("name", files(hand.FILES))
def test_hand(tool: Tool, name: str) -> None:
    values, wanted = as_lists(hand.read(only("hand", name))), expected(name)
    names = {"relatives": "base_relatives", "inverses": "inverse_base_absolutes"}
    model = {names.get(k, k): values[k] for k in ("parents", "relatives", "inverses", "weights")}
    model |= {"base_positions": values["positions"], "triangles": values["triangles"]}
    data = {"model": model, "points": values["measured"]}
    data["correspondences"] = values["correspondences"]
    given = {"theta": values["theta"], "data": data, "us": values.get("us", [])}
    check(tool.evaluate("ht", "objective", given), wanted["objective"])
    check(tool.evaluate("ht", "jacobian", given), wanted["jacobian"])


@needs_data
def test_ba_with_observations_that_differ() -> None:
    """Every residual and every entry, against differences of the formula in NumPy."""
    import graphc as gx

    generator = np.random.default_rng(3)
    n, m, p = 3, 5, 11
    values = ba.repeated(n, m, p, np.zeros(11), np.zeros(3), 1.0, np.zeros(2))
    for name in ("points", "weights", "features"):
        values[name] = generator.normal(size=values[name].shape)
    cameras = 0.3 * generator.normal(size=(n, 11))
    cameras[:, 5] -= 8
    values["cameras"] = cameras
    symbols = {k: gx.symbol(k, v.shape, v.dtype.name) for k, v in values.items()}
    outputs = [ba.of_graphc(**symbols), ba.jacobian_of_graphc(**symbols)]
    f = gx.compile(list(symbols.values()), outputs, options=gx.Options(cache=False))
    assert len(f.kernels) <= 5, "columns that share what they are made of are made together"
    (seen, weights), (blocks, by_weight) = f(*values.values())
    wanted = ba.by_hand(**values)
    check(seen, wanted[0])
    check(weights, wanted[1])
    found = ba.sparse(values, blocks, by_weight)
    dense = np.zeros((3 * p, 11 * n + 3 * m + p))
    rows = np.repeat(np.arange(3 * p), np.diff(found["rows"]))
    dense[rows, found["cols"]] = found["vals"]
    flat = np.concatenate([values[k].ravel() for k in ba.PARAMETERS])
    step = 1e-6

    def residuals(at: np.ndarray) -> np.ndarray:
        parts = np.split(at, [11 * n, 11 * n + 3 * m])
        shaped = {k: v.reshape(values[k].shape) for k, v in zip(ba.PARAMETERS, parts, strict=True)}
        return np.concatenate([part.ravel() for part in ba.by_hand(**{**values, **shaped})])

    for column in range(flat.size):
        move = step * (np.arange(flat.size) == column)
        slope = (residuals(flat + move) - residuals(flat - move)) / (2 * step)
        assert np.allclose(dense[:, column], slope, rtol=1e-5, atol=1e-6)
