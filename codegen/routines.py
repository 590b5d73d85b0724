"""Which mathematical procedures are called instead of being copied into a kernel?

A procedure such as `sin` is some fifty instructions. A small kernel takes a copy of them, and its
constants stay in registers. A large one would be made of nothing but copies, and compile time grows
with them: there a procedure is a *routine*, one function that all calls and all kernels share,
which is compiled once for each number of lanes. The instructions are the same, so the bits are.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

from graphc.codegen.scalar import FLOATS, HALVES, Routine, Scope, Value
from graphc.codegen.vecmath.trig import sine_with_cosine
from graphc.lowering import Elementwise
from graphc.node import Node
from graphc.op import Op

# Procedures of fewer instructions are always copied.
LEAST_INSTRUCTIONS = 16


@functools.cache
def routine(
    name: str, dtypes: tuple[str, ...], fast: bool = False, tables: bool = False
) -> Routine | None:
    """The procedure of that name for arguments of these dtypes as a routine, the fast one, or the
    one that looks numbers up; None for one that has several results or is not worth a call.
    """
    if any(dtype not in FLOATS or dtype in HALVES for dtype in dtypes):
        return None
    if _length(name, dtypes, fast, tables) < LEAST_INSTRUCTIONS:
        return None
    body = Scope(fast=fast, tables=tables)
    parameters = _parameters(body, dtypes)
    result = body.call(name, *parameters)
    if not isinstance(result, Value):
        return None
    kinds = [kind for kind, is_one in (("fast", fast), ("tabled", tables)) if is_one]
    return Routine("_".join((*kinds, name, *dtypes)), parameters, body, result, name)


# What computes two procedures of one argument better than copies of both would.
_JOINED = {("sin", "cos"): sine_with_cosine}
# Copies of two procedures that share a quarter of their instructions are joined.
MOST_TOGETHER = 0.75


@functools.cache
def joined(first: Routine, second: Routine) -> Routine | None:
    """One routine with the results of two, bit for bit, for the same arguments, in their order;
    None if each had better be called: they share little, or the other order has a procedure.
    """
    names = first.procedure, second.procedure
    kinds = [(each.body.fast, each.body.tables, each.result.dtype) for each in (first, second)]
    if not all(names) or kinds[0] != kinds[1] or names[::-1] in _JOINED:
        return None
    body = Scope(fast=first.body.fast, tables=first.body.tables)
    parameters = _parameters(body, [each.dtype for each in first.parameters])
    if names in _JOINED:
        result, also = _JOINED[names](body, *parameters)
    else:
        result, also = (body.copy(name, *parameters) for name in names)
        apart = len(first.body.statements) + len(second.body.statements)
        if len(body.statements) > MOST_TOGETHER * apart:
            return None
    return Routine(f"{first.name}_{second.procedure}", parameters, body, result, also=also)


def _parameters(body: Scope, dtypes: Sequence[str]) -> tuple[Value, ...]:
    return tuple(Value(body, "parameter", (), dtype, i) for i, dtype in enumerate(dtypes))


def _length(name: str, dtypes: tuple[str, ...], fast: bool, tables: bool) -> int:
    """The instructions of a procedure, those of which it calls aside. One of few is copied, so that
    calls that it has in common with others are there once.
    """
    body = Scope(calls_routines=True, fast=fast, tables=tables)
    body.copy(name, *_parameters(body, dtypes))
    return len(body.statements)


def work_together(nodes: Sequence[Node], fast: bool = False, tables: bool = False) -> int:
    """What element-wise nodes of the same arguments cost in one kernel, in additions: instructions
    that several of them hold are there once.
    """
    forms = [node.op.lowering for node in nodes]
    alone = sum(form.cost for form in forms if isinstance(form, Elementwise))
    ops = tuple(node.op for node in nodes if not node.attrs)
    if len(ops) < 2 or len(ops) < len(nodes):
        return alone
    dtypes = tuple(argument.dtype.name for argument in nodes[0].args)
    return round(alone * _shared(ops, dtypes, fast, tables))


@functools.cache
def _shared(ops: tuple[Op, ...], dtypes: tuple[str, ...], fast: bool, tables: bool) -> float:
    """Instructions of the kernels of ops at the same arguments, over those of each by itself."""
    wide = tuple("float32" if dtype in HALVES else dtype for dtype in dtypes)
    together = _instructions(ops, wide, fast, tables)
    return together / max(1, sum(_instructions((op,), wide, fast, tables) for op in ops))


def _instructions(ops: tuple[Op, ...], dtypes: tuple[str, ...], fast: bool, tables: bool) -> int:
    body = Scope(fast=fast, tables=tables)
    parameters = _parameters(body, dtypes)
    for op in ops:
        op.lowering.kernel(body, *parameters)  # type: ignore[union-attr]
    return sum(each.opcode != "const" for each in body.statements)
