"""Can a call be interrupted in the middle of one long row, and is a row that pauses still right?"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import graphc as gx
from graphc.codegen.llvm.pauses import PAUSE_STEPS, PAUSE_STEPS_OF_LOOPS

ROOT = Path(__file__).resolve().parents[2]
ROWS = {
    "sum": lambda x: gx.sum(x, axis=1),
    "prod": lambda x: gx.prod(x, axis=1),
    "max": lambda x: gx.max(x, axis=1),
    "argmax": lambda x: gx.argmax(x, axis=1),
    "sum and argmax": lambda x: gx.sum(x, axis=1) + gx.argmax(x, axis=1),
}
# Rows that end before the first pause, at one, just after it, and after several.
BLOCK = PAUSE_STEPS
LENGTHS = (1, BLOCK - 1, BLOCK, BLOCK + 1, 16 * BLOCK, 64 * BLOCK, 64 * BLOCK + 5, 130 * BLOCK + 7)


@pytest.mark.parametrize("static", [False, True], ids=["named", "static"])
@pytest.mark.parametrize("name", ROWS)
def test_rows_of_several_blocks(name: str, static: bool) -> None:
    compiled = None
    for length in LENGTHS[-2:] if static else LENGTHS:
        x = gx.symbol("x", (2, length if static else "n"), "float64")
        if compiled is None or static:
            compiled = gx.compile([x], ROWS[name](x), options=gx.Options(threads=2))
        array = np.random.default_rng(length).integers(0, 2, (2, length)).astype(float)
        array[0, -1] = array[1, length // 2] = 2.0
        np.testing.assert_array_equal(compiled(array), gx.evaluate(ROWS[name](x), {x: array}))


def test_a_loop_of_loops_that_pauses() -> None:
    """A column is summed over rows in order, many of them."""
    x = gx.symbol("x", ("n", "m"), "int64")
    f = gx.compile([x], [gx.sum(x, axis=0), gx.max(x, axis=0)], options=gx.Options(threads=1))
    for rows in (1, PAUSE_STEPS_OF_LOOPS, PAUSE_STEPS_OF_LOOPS + 1, 3 * PAUSE_STEPS + 5):
        array = np.random.default_rng(rows).integers(-9, 9, (rows, 5))
        total, largest = f(array)
        np.testing.assert_array_equal(total, array.sum(0))
        np.testing.assert_array_equal(largest, array.max(0))


INTERRUPTED = """
import signal, time
import numpy as np
import graphc as gx
x = gx.symbol("x", (1, "n"), "float64")
f = gx.compile([x], [ROW], options=gx.Options(threads=THREADS))
f(np.broadcast_to(np.float64(1), (1, 5)))  # compiled for strides
endless = np.broadcast_to(np.float64(1), (1, 10**12))  # one element, seen as many
begin = time.perf_counter()
signal.signal(signal.SIGALRM, signal.default_int_handler)
signal.setitimer(signal.ITIMER_REAL, 0.2)
try:
    f(endless)
except KeyboardInterrupt:
    print("interrupted")
print(f(np.arange(4.0)[None])[0][0])
"""


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
@pytest.mark.parametrize(
    "row, after",
    [("gx.sum(x, axis=1)", "6.0"), ("gx.argmax(x, axis=1)", "3"), ("gx.max(x, axis=1)", "3.0")],
)
@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_stops_a_row(row: str, after: str, threads: int) -> None:
    """Ten minutes of one row end at once, and the Function goes on to work."""
    script = textwrap.dedent(INTERRUPTED).replace("ROW", row).replace("THREADS", str(threads))
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.split() == ["interrupted", after], done.stderr
