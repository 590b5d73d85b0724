"""Which loads of a loop read what its last iteration stored?  A register can hold that instead.

A running sum reads back what it stored last. Through memory that takes a processor nine cycles and
an addition four, so a printer that sees the pair carries the value from iteration to iteration; it
is stored all the same.
"""

from __future__ import annotations

from collections.abc import Iterator

from graphc.codegen.loops import linear
from graphc.codegen.scalar import Address, For, Store, Until, Value, walk
from graphc.dims import Dim, substitute

# Dtypes whose values look the same in a register as in memory.
HELD = frozenset(("float32", "float64", "int32", "int64", "uint32", "uint64"))


def carried_loads(loop: For) -> Iterator[tuple[Value, Store]]:
    """The loads of a loop in order that read what the iteration before stored, with the store."""
    if loop.segment or loop.role != "serial":
        return
    if any(isinstance(s, Until) for s in loop.body.statements):
        return
    stores: dict[object, list[Store]] = {}
    for s in walk(loop.body):
        if isinstance(s, Store):
            stores.setdefault(s.buffer, []).append(s)
    here = {id(s): place for place, s in enumerate(loop.body.statements)}
    for s in loop.body.statements:
        if not isinstance(s, Value) or not isinstance(s.immediate, Address) or s.args:
            continue
        written = stores.get(s.immediate.buffer, [])
        if len(written) != 1 or id(written[0]) not in here or s.dtype not in HELD:
            continue
        store = written[0]
        plain = not store.args and store.mask is None and store.value.dtype == s.dtype
        if plain and here[id(s)] < here[id(store)] and _follows(loop, store, s):
            yield s, store


def _follows(loop: For, store: Store, load: Value) -> bool:
    """Whether the load is where the store was one iteration earlier."""
    variable = Dim.symbol(loop.variable)
    earlier = substitute(linear(store.buffer, store.index), {loop.variable: variable - 1})
    return earlier == linear(load.immediate.buffer, load.immediate.index)
