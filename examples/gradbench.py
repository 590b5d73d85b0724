"""A tool for GradBench: graphc answers its evaluations over JSON lines.

GradBench (https://github.com/gradbench/gradbench) compares tools for automatic differentiation. An
evaluation and a tool are two programs; between them runs a conversation of one JSON object a line:

    {"id": 0, "kind": "start", "eval": "gmm"}         -> {"id": 0, "tool": "graphc"}
    {"id": 1, "kind": "define", "module": "gmm"}      -> {"id": 1, "success": true}
    {"id": 2, "kind": "evaluate", "module": "gmm", "function": "jacobian", "input": {...}}
                -> {"id": 2, "success": true, "output": ..., "timings": [{"name": ...}, ...]}
    {"id": 3, "kind": "analysis", "of": 2, "valid": true}   -> {"id": 3}

The problems are ADBench's: `gmm`, `lstm`, `ba`, and `ht` or `hand`; each is a graph in
`tests/benchmarks/adbench`. A graph is compiled when its sizes are first seen, which is the timing
"prepare"; every run of the compiled Function is a timing "evaluate", on one thread.

Run me: python examples/gradbench.py, with requests on standard input.
"""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path += [str(ROOT / "tests" / "benchmarks"), str(ROOT)]  # behind what is installed

from adbench import ba, gmm, hand, lstm  # noqa: E402

import graphc as gx  # noqa: E402

Values = dict[str, Any]


@dataclass(frozen=True)
class Problem:
    """How an evaluation's input becomes arrays and settings, what is computed of them, and how the
    results are told.

    `graphs` has for each function a builder of outputs from symbols and settings.
    """

    read: Callable[[Values], Values]
    graphs: dict[str, Callable[..., Any]]
    tell: Callable[[str, Values, Any], Any]


def array(value: Any) -> np.ndarray:
    """Numbers as float64 or int64."""
    found = np.asarray(value)
    return found.astype("int64" if found.dtype.kind in "iu" else "float64")


# -- the four problems -----------------------------------------------------------------------------


def read_gmm(given: Values) -> Values:
    if "icf" in given:  # as ADBench names them
        d, factors = given["d"], array(given["icf"])
        parameters = {"mu": given["means"], "q": factors[:, :d], "l": factors[:, d:]}
    else:
        parameters = {name: given[name] for name in ("mu", "q", "l")}
    count = len(parameters["mu"])
    shapes = {"mu": (count, -1), "q": (count, -1), "l": (count, -1)}
    arrays = {
        name: np.asarray(value, float).reshape(shapes[name])
        if np.size(value)
        else np.zeros((count, 0))
        for name, value in parameters.items()
    }
    settings = {"gamma": float(given["gamma"]), "m": int(given["m"])}
    alpha, x = (np.asarray(given[name], float) for name in ("alpha", "x"))
    return {"alpha": alpha, **arrays, "x": x, **settings}


def gradient_of_gmm(**values: Any) -> Any:
    return gx.grad(gmm.of_graphc(**values), [values[name] for name in gmm.PARAMETERS])


def tell_gmm(function: str, given: Values, found: Any) -> Any:
    if function == "objective":
        return float(found)
    alpha, mu, q, under = (part.tolist() for part in found)
    if "icf" in given:
        factors = np.concatenate([found[2], found[3]], axis=1)
        return np.concatenate([found[0], found[1].ravel(), factors.ravel()]).tolist()
    return {"alpha": alpha, "mu": mu, "q": q, "l": under}


def read_lstm(given: Values) -> Values:
    names = {"main": "main_params", "extra": "extra_params"}
    names |= {"state": "state", "sequence": "sequence"}
    return {mine: np.asarray(given[name], float) for mine, name in names.items()}


def gradient_of_lstm(**values: Any) -> Any:
    return gx.grad(lstm.of_graphc(**values), [values[name] for name in lstm.PARAMETERS])


def tell_lstm(function: str, given: Values, found: Any) -> Any:
    if function == "objective":
        return float(found)
    return np.concatenate([part.ravel() for part in found]).tolist()


def read_ba(given: Values) -> Values:
    sizes = [int(given[name]) for name in "nmp"]
    return ba.repeated(*sizes, *(given[name] for name in ("cam", "x", "w", "feat")))


def tell_ba(function: str, given: Values, found: Any) -> Any:
    """The first observation, for all are alike; and of the Jacobian the last entry."""
    if function == "objective":
        seen, weights = found
        return {
            "reproj_error": {"elements": seen[0].tolist(), "repeated": len(seen)},
            "w_err": {"element": float(weights[0]), "repeated": len(weights)},
        }
    matrix = ba.sparse(read_ba(given), *found)
    entries = 2 * (ba.CAMERA + 4)
    return {name: [*v[:entries].tolist(), v[-1].item()] for name, v in matrix.items()}


def read_hand(given: Values) -> Values:
    data = given.get("data", given)
    model = data["model"]
    names = {"relatives": "base_relatives", "inverses": "inverse_base_absolutes"}
    names |= {"positions": "base_positions", "weights": "weights", "triangles": "triangles"}
    values = {mine: array(model[name]) for mine, name in names.items()}
    if model.get("is_mirrored"):
        raise ValueError("mirrored hands are not supported")
    values["correspondences"] = array(data["correspondences"])
    values["measured"] = np.asarray(data["points"], float)
    if given.get("us") is not None and len(given["us"]):
        values["us"] = np.asarray(given["us"], float).reshape(-1, 2)
    values["theta"] = np.asarray(given["theta"], float)
    values["parents"] = tuple(map(int, model["parents"]))
    return values


def tell_hand(function: str, given: Values, found: Any) -> Any:
    if function == "objective":
        return found.ravel().tolist()
    return found.reshape(-1, found.shape[2]).tolist()


HAND = Problem(
    read_hand, {"objective": hand.of_graphc, "jacobian": hand.jacobian_of_graphc}, tell_hand
)
PROBLEMS = {
    "gmm": Problem(read_gmm, {"objective": gmm.of_graphc, "jacobian": gradient_of_gmm}, tell_gmm),
    "lstm": Problem(
        read_lstm, {"objective": lstm.of_graphc, "jacobian": gradient_of_lstm}, tell_lstm
    ),
    "ba": Problem(read_ba, {"objective": ba.of_graphc, "jacobian": ba.jacobian_of_graphc}, tell_ba),
    "ht": HAND,
    "hand": HAND,
}

# -- the conversation ------------------------------------------------------------------------------

_compiled: dict[Any, Any] = {}


def compiled(module: str, function: str, arrays: Values, settings: Values) -> Any:
    """The Function for arrays of these shapes, and these settings; made once."""
    shapes = tuple((name, value.shape, value.dtype.name) for name, value in arrays.items())
    key = (module, function, shapes, tuple(settings.items()))
    if key not in _compiled:
        symbols = {name: gx.symbol(name, shape, dtype) for name, shape, dtype in shapes}
        outputs = PROBLEMS[module].graphs[function](**symbols, **settings)
        options = gx.Options(threads=1)
        _compiled[key] = gx.compile(list(symbols.values()), outputs, options=options)
    return _compiled[key]


def timing(name: str, begin: int) -> Values:
    return {"name": name, "nanoseconds": time.perf_counter_ns() - begin}


def evaluate(request: Values) -> Values:
    """Runs a function as often as is asked, and tells how long each time took."""
    module, function, given = (request[name] for name in ("module", "function", "input"))
    problem = PROBLEMS[module]
    begin = time.perf_counter_ns()
    values = problem.read(given)
    arrays = {k: v for k, v in values.items() if isinstance(v, np.ndarray)}
    settings = {k: v for k, v in values.items() if k not in arrays}
    run = compiled(module, function, arrays, settings)
    timings = [timing("prepare", begin)]
    least, seconds = int(given.get("min_runs", 1)), float(given.get("min_seconds", 0))
    until = time.perf_counter() + seconds
    found, runs = None, 0
    while runs < max(1, least) or time.perf_counter() < until:
        begin = time.perf_counter_ns()
        found = run(*arrays.values())
        timings.append(timing("evaluate", begin))
        runs += 1
    return {"success": True, "output": problem.tell(function, given, found), "timings": timings}


def answer(request: Values) -> Values:
    """What there is to say to one message."""
    kind = request["kind"]
    if kind == "start":
        return {"tool": "graphc"}
    if kind == "define":
        known = request["module"] in PROBLEMS
        return {"success": known, **({} if known else {"error": "no such module"})}
    if kind != "evaluate":
        return {}
    try:
        return evaluate(request)
    except Exception:
        return {"success": False, "error": traceback.format_exc()}


def main() -> None:
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps({"id": request["id"], **answer(request)}), flush=True)


if __name__ == "__main__":
    main()
