"""03. Compile and time.

`gx.compile` closes a graph over its inputs, rewrites it, fuses it to a few kernels, prints these as
LLVM IR and links the machine code. This page looks at what each step did, and times the result
against the same expression in NumPy.

Run me:  python examples/03_compile_and_time.py
"""

import statistics
import time

import numpy as np

import graphc as gx

x = gx.vector("x", "n")
y = gx.vector("y", "n")
f = gx.compile([x, y], gx.tanh(x * y) + x)

# The report has the time of each phase of compiling, the kernels with the nodes and lines that they
# compute, and why they were fused as they are. Compile the same graph again, even in another
# process, and most phases are a look-up in the cache.
print(f.report())


def median_seconds(function, calls):
    """Median over 30 rounds: robust against whatever else the machine is doing."""
    rounds = []
    for _ in range(30):
        start = time.perf_counter()
        for _ in range(calls):
            function()
        rounds.append((time.perf_counter() - start) / calls)
    return statistics.median(rounds)


# Ten elements: what is timed is the call. A compiled Function is called like any other, checks its
# arguments, and allocates the result, or writes to `out`. A million: what is timed is the kernel,
# which reads x and y once and stores nothing in between.
for size, calls in ((10, 2000), (1_000_000, 2)):
    a, b = np.linspace(-2, 2, size), np.linspace(0, 1, size)
    out = np.empty(size)
    assert np.allclose(f(a, b), np.tanh(a * b) + a, rtol=1e-14)
    assert f(a, b, out=out) is out
    ours = median_seconds(lambda a=a, b=b: f(a, b), calls)
    into = median_seconds(lambda a=a, b=b, out=out: f(a, b, out=out), calls)
    numpy = median_seconds(lambda a=a, b=b: np.tanh(a * b) + a, calls)
    print(
        f"{size:>9} elements: graphc {ours * 1e6:9.2f} us, with out= {into * 1e6:9.2f} us, "
        f"NumPy {numpy * 1e6:9.2f} us, ratio {ours / numpy:.2f}"
    )

# Arguments that do not fit are refused before anything runs.
try:
    f(np.zeros(3), np.zeros(4))
except ValueError as error:
    print("refused:", error)
