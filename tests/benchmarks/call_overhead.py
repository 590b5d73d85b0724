"""What does a call of a compiled Function cost, beside NumPy's expression?

tanh(x*y)+x on ten float64, through the public object: arguments checked and the result allocated,
and with `out=`. In turns, medians; the loop's own time (an empty statement) is printed and not
subtracted. Budgets: 150 ns allocating, 80 ns with `out=`.

    python tests/benchmarks/call_overhead.py
"""

from __future__ import annotations

import statistics
import timeit

import numpy as np

import graphc as gx

ROUNDS, CALLS = 60, 5000
STATEMENTS = {
    "NumPy, np.tanh(a*b)+a": "tanh(a * b) + a",
    "graphc, f(a, b)": "f(a, b)",
    "graphc, f(a, b, out=c)": "f(a, b, out=c)",
    "an empty statement": "pass",
}


def main() -> None:
    generator = np.random.default_rng(0)
    a, b, c = generator.normal(size=10), generator.normal(size=10), np.empty(10)
    x, y = gx.vector("x", "n"), gx.vector("y", "n")
    f = gx.compile([x, y], gx.tanh(x * y) + x)
    np.testing.assert_allclose(f(a, b), np.tanh(a * b) + a, rtol=1e-14)
    names = {"a": a, "b": b, "c": c, "f": f, "tanh": np.tanh}
    timers = {name: timeit.Timer(text, globals=names) for name, text in STATEMENTS.items()}
    rounds = [
        {name: timer.timeit(CALLS) / CALLS for name, timer in timers.items()}
        for _ in range(ROUNDS)
    ]
    numpy = next(iter(STATEMENTS))
    print(f"{'statement':<28}{'median ns':>12}{'best ns':>12}{'ratio to NumPy':>16}")
    for name in STATEMENTS:
        times = [r[name] * 1e9 for r in rounds]
        ratio = statistics.median(r[name] / r[numpy] for r in rounds)
        print(f"{name:<28}{statistics.median(times):>12.1f}{min(times):>12.1f}{ratio:>16.3f}")


if __name__ == "__main__":
    main()
