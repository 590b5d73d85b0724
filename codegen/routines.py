"""Which mathematical procedures are called instead of being copied into a kernel?

A procedure such as `sin` is some fifty instructions. A small kernel takes a copy of them, and its
constants stay in registers. A large one would be made of nothing but copies, and compile time grows
with them: there a procedure is a *routine*, one function that all calls and all kernels share,
which is compiled once for each number of lanes. The instructions are the same, so the bits are.
"""

from __future__ import annotations

import functools

from graphc.codegen.scalar import FLOATS, HALVES, Routine, Scope, Value

# Procedures of fewer instructions are always copied.
LEAST_INSTRUCTIONS = 16


@functools.cache
def routine(name: str, dtypes: tuple[str, ...], fast: bool = False) -> Routine | None:
    """The procedure of that name for arguments of these dtypes as a routine, or the fast one; None
    for one that has several results or is not worth a call.
    """
    if any(dtype not in FLOATS or dtype in HALVES for dtype in dtypes):
        return None
    body = Scope(fast=fast)
    parameters = tuple(
        Value(body, "parameter", (), dtype, position) for position, dtype in enumerate(dtypes)
    )
    result = body.call(name, *parameters)
    if not isinstance(result, Value) or len(body.statements) < LEAST_INSTRUCTIONS:
        return None
    speed = ("fast",) if fast else ()
    return Routine("_".join((*speed, name, *dtypes)), parameters, body, result)
