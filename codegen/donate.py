"""When may an output be written over the input that was donated for it?

When nothing reads the input later. A donated pair is *safe* if every launch that reads the input comes before the first that writes the
output, or is that launch and reads each element only where it writes it. For any other pair the output is made in a temporary and
copied at the end.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc.codegen.emit import copy_operand
from graphc.codegen.loops import Contract, Kernel, linear, scopes
from graphc.codegen.program import Launch, Loop, Operand, Procedure, Statement, Storage
from graphc.codegen.scalar import Address, Store, Value, walk


def protect(procedure: Procedure, donated: Mapping[int, int]) -> None:
    """Redirect outputs that would overwrite a donated input too early. `donated`: input to output, by position."""
    for source, target in donated.items():
        given, made = procedure.inputs[source], procedure.outputs[target]
        if not _is_safe(procedure.body, given, made):
            aside = Storage("temporary", made.dtype, made.shape)
            _redirect(procedure.body, made, aside)
            procedure.body += copy_operand(Operand(aside), Operand(made))


def _is_safe(body: list[Statement], given: Storage, made: Storage) -> bool:
    written = False
    for statement in body:
        if isinstance(statement, Loop):
            touched = _touches(statement.body, made)
            if written and _touches(statement.body, given) or touched:
                return False
            continue
        storages = [operand.storage for operand in statement.operands]
        reads, writes = given in storages, made in storages
        if written and reads:
            return False
        if writes and reads and not (
            isinstance(statement, Launch) and _reads_where_it_writes(statement, given, made)
        ):
            return False
        written = written or writes
    return True


def _touches(body: list[Statement], storage: Storage) -> bool:
    return any(
        _touches(s.body, storage) if isinstance(s, Loop) else storage in [o.storage for o in s.operands]
        for s in body
    )


def _reads_where_it_writes(launch: Launch, given: Storage, made: Storage) -> bool:
    """Whether every load of the input is at the very position at which the output is stored in the same iteration."""
    kernel: Kernel = launch.kernel
    pairs = list(zip(kernel.buffers, launch.operands, strict=True))
    inputs = {buffer for buffer, operand in pairs if operand.storage is given}
    outputs = {buffer for buffer, operand in pairs if operand.storage is made}
    if any(operand.offset != 0 or operand.storage.strided for _, operand in pairs if operand.storage in (given, made)):
        return False
    nest = kernel.nest
    if isinstance(nest, Contract) and any(
        isinstance(s, Value) and isinstance(s.immediate, Address) and s.immediate.buffer in inputs
        for region in (nest.left, nest.right)
        for s in walk(region.body)
    ):
        return False
    loads, stores = set(), set()
    for scope in scopes(kernel):
        for s in walk(scope):
            if isinstance(s, Value) and isinstance(s.immediate, Address) and s.immediate.buffer in inputs:
                loads.add((linear(s.immediate.buffer, s.immediate.index), s.scope.depth, bool(s.args)))
            elif isinstance(s, Store) and s.buffer in outputs:
                stores.add((linear(s.buffer, s.index), s.args == ()))
    positions = {position for position, _ in stores}
    plain = all(simple for _, simple in stores)
    return plain and len(positions) == 1 and all(p in positions and not masked for p, _, masked in loads)


def _redirect(body: list[Statement], old: Storage, new: Storage) -> None:
    for statement in body:
        if isinstance(statement, Loop):
            _redirect(statement.body, old, new)
            continue
        for operand in statement.operands:
            if operand.storage is old:
                operand.storage = new
