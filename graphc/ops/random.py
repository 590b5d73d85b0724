"""Where does chance come from?  One op, a cipher of a counter under a key, and one that says that
a draw does not vary smoothly.

Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2,
3; SC 2011): additions, rotations and exclusive ors of 32-bit words, so every backend
gives the same bits, and an element needs nothing but the key and its own position.
`docs/decisions/0007-random-numbers.md` says why this one. `graphc.random` is what users see.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc import dtypes
from graphc.errors import GraphError
from graphc.op import elementwise, no_derivative, same_types
from graphc.types import TupleType, Type

ROUNDS = 20
# Bits to rotate by in each round, in turn (the paper's constants for two words of 32 bits).
ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
# The third word of the key schedule is the exclusive or of this and both words of the key.
PARITY = 0x1BD11BDA


def _infer(*types: Type) -> TupleType:
    if len(types) != 4:
        raise GraphError(f"threefry takes 4 arguments, got {len(types)}")
    common = same_types("threefry", types, "u")
    if common.dtype != dtypes.as_dtype("uint32"):
        raise GraphError(f"threefry works on words of uint32, got {common.dtype.name}")
    return TupleType((common, common))


def _numpy(key0: Any, key1: Any, low: Any, high: Any) -> tuple[Any, Any]:
    words = [np.asarray(word, np.uint32) for word in (key0, key1, low, high)]
    keys = (words[0], words[1], words[0] ^ words[1] ^ np.uint32(PARITY))
    with np.errstate(over="ignore"):
        x, y = words[2] + keys[0], words[3] + keys[1]
        for i in range(ROUNDS):
            turn = ROTATIONS[i % 8]
            x = x + y
            y = ((y << np.uint32(turn)) | (y >> np.uint32(32 - turn))) ^ x
            if i % 4 == 3:
                step = i // 4 + 1
                x = x + keys[step % 3]
                y = y + (keys[(step + 1) % 3] + np.uint32(step))
    return x, y


def _kernel(k: Any, key0: Any, key1: Any, low: Any, high: Any) -> tuple[Any, Any]:
    """What depends on the key alone is computed outside the loop over elements."""
    keys = (key0, key1, k.xor(k.xor(key0, key1), PARITY))
    x, y = k.add(low, keys[0]), k.add(high, keys[1])
    for i in range(ROUNDS):
        turn = ROTATIONS[i % 8]
        x = k.add(x, y)
        y = k.xor(k.or_(k.shl(y, turn), k.shr(y, 32 - turn)), x)
        if i % 4 == 3:
            step = i // 4 + 1
            x = k.add(x, keys[step % 3])
            y = k.add(y, k.add(keys[(step + 1) % 3], step))
    return x, y


threefry_op = elementwise(
    "threefry",
    numpy=_numpy,
    kernel=_kernel,
    partials=no_derivative("random bits do not vary smoothly"),
    infer=_infer,
    kinds="u",
    cost=5 * ROUNDS,
    doc="Two results: the words (low, high) of a counter, enciphered under two words of a key.",
)


drawn_op = elementwise(
    "drawn",
    numpy=lambda x: np.array(x, copy=True),
    kernel=lambda k, x: x,
    native=True,
    partials=no_derivative(
        "a number drawn by rejection jumps as the parameters of its distribution vary; the "
        "gradient of an expectation is that of the log-density (score function)"
    ),
    kinds="biuf",
    doc="x itself. It has no derivative, where a silent zero or a biased one would come out.",
)
