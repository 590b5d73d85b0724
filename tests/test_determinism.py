"""Are the bits the same for any number of threads, every time, and in every process?

Sizes are large enough that work is split in many tasks, so the order in which threads finish
differs from call to call.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from places import run_python

import graphc as gx

x = gx.matrix("x", ("n", "m"))
y = gx.matrix("y", ("m", "k"))
v = gx.vector("v", "n")
i = gx.vector("i", "n", "int64")

# Name: inputs, outputs, shapes.
CASES: dict[str, tuple[list[Any], list[Any], list[tuple[int, ...]]]] = {
    "sum of a vector": ([v], [gx.sum(v)], [(3_000_001,)]),
    "sum of all": ([x], [gx.sum(x), gx.sum(gx.tanh(x))], [(1_501, 1_003)]),
    "sums of rows": ([x], [gx.sum(x, axis=1)], [(7, 400_003)]),
    "sums of columns": ([x], [gx.sum(x, axis=0), gx.mean(x * x, axis=0)], [(40_003, 31)]),
    "sums of long columns": ([x], [gx.sum(x, axis=0)], [(1_000_003, 3)]),
    "products": ([v], [gx.prod(1 + v * 1e-6)], [(1_000_003,)]),
    "softmax": ([x], [gx.softmax(x)], [(1_003, 1_001)]),
    "softmax of few rows": ([x], [gx.softmax(x)], [(3, 500_009)]),
    "logsumexp": ([v], [gx.logsumexp(v)], [(1_000_003,)]),
    "a matrix product": ([x, y], [x @ y], [(403, 517), (517, 391)]),
    "a deep matrix product": ([x, y], [x @ y], [(5, 200_003), (200_003, 7)]),
    "a flat matrix product": ([x, y], [x @ y], [(20_011, 9), (9, 300)]),
    "a matrix and a vector": ([x, v], [x.T @ v, x @ x[0]], [(20_003, 101), (20_003,)]),
    "a gradient": (
        [x, y],
        gx.grad(gx.mean(gx.softmax(gx.tanh(x @ y)) ** 2), [x, y]),
        [(2_003, 65), (65, 129)],
    ),
    "a scatter": ([x, i], [gx.grad(gx.sum(gx.take(x, i, axis=0) ** 2), x)], [(50, 33), (20_011,)]),
}


def arrays_for(name: str) -> list[np.ndarray]:
    inputs, _, shapes = CASES[name]
    random = np.random.default_rng(5)
    made = []
    for node, shape in zip(inputs, shapes, strict=True):
        if node.dtype.kind == "i":
            made.append(random.integers(0, 50, len(range(shape[0]))))
        else:
            made.append(random.standard_normal(shape) * 10.0 ** random.integers(-3, 3, shape))
    if name == "a scatter":
        made[1] = random.integers(0, 50, 50)
    return made


def bits(results: Any) -> str:
    return hashlib.sha256(b"".join(np.ascontiguousarray(r).tobytes() for r in results)).hexdigest()


def compiled(name: str, threads: int, **choices: Any) -> Callable[..., Any]:
    inputs, outputs, _ = CASES[name]
    return gx.compile(inputs, outputs, options=gx.Options(threads=threads, **choices))


@pytest.mark.parametrize("name", CASES)
def test_one_thread_and_several_give_the_same_bits(name: str) -> None:
    arrays = arrays_for(name)
    wanted = compiled(name, 1)(*arrays)
    for threads in (2, 3):
        f = compiled(name, threads)
        for _ in range(4):
            for got, value in zip(f(*arrays), wanted, strict=True):
                np.testing.assert_array_equal(got, value)
                assert got.tobytes() == value.tobytes()


@pytest.mark.parametrize("name", ["sum of all", "a matrix product", "softmax"])
def test_other_callers_and_layouts_do_not_matter(name: str) -> None:
    """While other threads call the same Function, and through the strided variant."""
    arrays, f = arrays_for(name), compiled(name, 2)
    wanted = bits(f(*arrays))
    done = threading.Event()

    def disturb() -> None:
        while not done.is_set():
            f(*arrays)

    others = [threading.Thread(target=disturb) for _ in range(2)]
    for thread in others:
        thread.start()
    try:
        assert {bits(f(*arrays)) for _ in range(5)} == {wanted}
    finally:
        done.set()
        for thread in others:
            thread.join()
    assert bits(f(*[a.copy() for a in arrays])) == wanted


@pytest.mark.parametrize("name", ["sum of all", "a matrix product"])
def test_arrays_at_other_addresses(name: str) -> None:
    """Alignment decides nothing that rounds."""
    arrays, f = arrays_for(name), compiled(name, 2)
    wanted = bits(f(*arrays))
    for shift in (8, 16, 24, 40):
        moved = []
        for array in arrays:
            memory = np.empty(array.nbytes + 64, np.uint8)
            place = memory[shift : shift + array.nbytes].view(array.dtype).reshape(array.shape)
            place[...] = array
            moved.append(place)
        assert bits(f(*moved)) == wanted


_BITS = """
import sys
sys.path.insert(0, sys.argv[1])
import test_determinism as tests
print([tests.bits(tests.compiled(name, int(sys.argv[2]))(*tests.arrays_for(name)))
       for name in ("sum of all", "a gradient", "sums of columns")])
"""


def test_every_process_gives_the_same_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = str(Path(__file__).parent)
    found = set()
    for seed, threads in (("0", "1"), ("1", "2"), ("2", "2")):
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        found.add(run_python("-c", _BITS, here, threads, folder=tmp_path))
    assert len(found) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="affinity is of Linux")
def test_one_processor_gives_the_same_bits() -> None:
    """Where threads take turns on one processor, tickets are taken in another order."""
    name = "sum of all"
    arrays, f = arrays_for(name), compiled(name, 2)
    wanted, allowed = bits(f(*arrays)), os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert bits(f(*arrays)) == wanted
    finally:
        os.sched_setaffinity(0, allowed)
