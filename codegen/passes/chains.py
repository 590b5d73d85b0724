"""Which products need not go through memory?  Those that only one kernel reads, as it goes along.

A contraction whose result is read once, by the epilogue of another at the very same element or by a
kernel over its rows, is made in the tiles of that kernel: scores of attention go from the product
to the softmax in registers, and a sum of several products is one launch. The launches stay what
they are and run one after the other (`program.Chain`); what they hand on is stored nowhere. Whether
a block can hold it is the target's to say.

This is done before memory is planned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from graphc.codegen.loops import Buffer, Contract, Kernel, linear, scopes
from graphc.codegen.passes.together import touches_of
from graphc.codegen.program import (
    Chain,
    Launch,
    Operand,
    Procedure,
    Program,
    Statement,
    Storage,
    bodies,
    operands_of,
)
from graphc.codegen.scalar import For, Store, Value, walk
from graphc.dims import Dim, Extent, product, substitute

# Launches of one chain, and statements back that one looks for what to take along.
MOST_LAUNCHES, LOOK_BACK = 6, 24


@dataclass(eq=False)
class _Uses:
    """Who touches a storage: launches that write it, launches that read it, and anything else."""

    writers: list[Launch] = field(default_factory=list)
    readers: list[Launch] = field(default_factory=list)
    others: int = 0


def chain_products(program: Program, fits: Callable[[Sequence[Launch]], bool]) -> None:
    """Join launches of a program wherever they can hand on products, and `fits` allows it."""
    for procedure in (*program.procedures, program.main):
        _Chaining(procedure, fits).run()


class _Chaining:
    """The chains of one procedure."""

    def __init__(self, procedure: Procedure, fits: Callable[[Sequence[Launch]], bool]) -> None:
        self.body = procedure.body
        self.fits = fits
        self.uses: dict[int, _Uses] = {}
        self._count(self.body)

    def run(self) -> None:
        waiting = [self.body]
        while waiting:
            body = waiting.pop()
            for statement in body:
                waiting += bodies(statement)
            body[:] = self._joined(body)

    def _count(self, body: Sequence[Statement]) -> None:
        for statement in body:
            for inner in bodies(statement):
                self._count(inner)
            if not isinstance(statement, Launch):
                for operand in operands_of(statement):
                    self._uses(operand.storage).others += 1
                continue
            written, read = set(statement.kernel.written()), _loaded(statement.kernel)
            for buffer, operand in zip(statement.kernel.buffers, statement.operands, strict=True):
                uses = self._uses(operand.storage)
                uses.writers += [statement] * (buffer in written)
                uses.readers += [statement] * (buffer in read)

    def _uses(self, storage: Storage) -> _Uses:
        return self.uses.setdefault(id(storage), _Uses())

    def _joined(self, body: Sequence[Statement]) -> list[Statement]:
        """The statements with chains in place of the launches that end them."""
        made: list[Statement] = []
        for statement in body:
            if isinstance(statement, Launch):
                statement = self._chain(made, statement)
            made.append(statement)
        return made

    def _chain(self, made: list[Statement], last: Launch) -> Statement:
        """A launch with those before it that hand it their results, which go from where they are.

        They come one by one, the latest first: what a launch cannot take along stays where it is.
        """
        chain = [last]
        result: list[Statement] = []
        held: list[Storage] = []
        for before in reversed(made[-LOOK_BACK:]):
            launches = before.launches if isinstance(before, Chain) else [before]
            if not isinstance(before, (Launch, Chain)) or not isinstance(launches[-1], Launch):
                continue
            found = self._handed(launches[-1], last)
            if found is None or len(launches) + len(chain) > MOST_LAUNCHES:
                continue
            wanted = [*launches, *chain]
            if not self._may_move(made, before) or _meet(wanted, [*held, found]):
                continue
            if not self.fits(wanted):
                continue
            chain, result = wanted, [*result, before]
            held.append(found)
        if not result:
            return last
        made[:] = [statement for statement in made if statement not in result]
        for storage in held:
            storage.kind = "held"
        return Chain(chain)

    def _handed(self, first: Launch, last: Launch) -> Storage | None:
        """What a contraction makes for nobody but a later launch, of its own elements there."""
        if not isinstance(first.kernel.nest, Contract):
            return None
        for buffer, operand in handed_candidates(first):
            uses = self._uses(operand.storage)
            alone = uses.writers == [first] and uses.readers == [last] and not uses.others
            if alone and reads_own(first, buffer, last, operand.storage):
                return operand.storage
        return None

    def _may_move(self, made: Sequence[Statement], moved: Statement) -> bool:
        """Whether a statement may run after all those that follow it."""
        position = next(i for i, statement in enumerate(made) if statement is moved)
        mine = list(touches_of(moved))
        return not any(
            touch.conflicts(other)
            for after in made[position + 1 :]
            for other in touches_of(after)
            for touch in mine
        )


def _meet(launches: Sequence[Launch], held: Sequence[Storage]) -> bool:
    """Whether launches meet in memory other than what they hand on: blocks would not wait for each
    other.
    """
    on_chip = {id(storage) for storage in held}
    touches = [
        [touch for touch in touches_of(launch) if id(touch.storage) not in on_chip]
        for launch in launches
    ]
    return any(
        one.conflicts(other)
        for number, mine in enumerate(touches)
        for theirs in touches[number + 1 :]
        for one in mine
        for other in theirs
    )


def handed_candidates(launch: Launch) -> Iterator[tuple[Buffer, Operand]]:
    """The temporaries that a contraction writes whole, each element where it is made."""
    contract = launch.kernel.nest
    assert isinstance(contract, Contract)
    for buffer, operand in zip(launch.kernel.buffers, launch.operands, strict=True):
        stores = [
            s
            for scope in scopes(launch.kernel)
            for s in walk(scope)
            if isinstance(s, Store) and s.buffer is buffer
        ]
        if operand.storage.kind not in ("temporary", "held") or operand.offset != 0:
            continue
        if len(stores) != 1 or stores[0].mask is not None or stores[0].args:
            continue
        whole = product(operand.storage.shape) == product(buffer.shape)
        if whole and _place(contract, buffer, stores[0].index) == own_element(contract):
            yield buffer, operand


def own_element(contract: Contract) -> Extent:
    """Where an element of a product is in an array of all of them."""
    batch, row, column = map(Dim.symbol, contract.epilogue.variables)
    start = batch * contract.rows if contract.batch != 1 else 0
    return (start + row) * contract.columns + column


def _place(contract: Contract, buffer: Buffer, index: tuple[Extent, ...]) -> Extent:
    """Where an element is; there is but one number of a batch of one."""
    place = linear(buffer, index)
    if contract.batch != 1:
        return place
    return substitute(place, {contract.epilogue.variables[0]: 0})


def reads_own(first: Launch, made: Buffer, last: Launch, storage: Storage) -> bool:
    """Whether `last` reads what `first` has made at its own element, or in its own row."""
    one, other = first.kernel.nest, last.kernel.nest
    assert isinstance(one, Contract)
    buffers = [
        buffer
        for buffer, operand in zip(last.kernel.buffers, last.operands, strict=True)
        if operand.storage is storage and operand.offset == 0 and buffer.dtype == made.dtype
    ]
    if len(buffers) != 1:
        return False
    loads = list(_loads(last.kernel, buffers[0]))
    if any(load.args for load in loads):
        return False
    places = [linear(buffers[0], load.immediate.index) for load in loads]
    if isinstance(other, Contract):
        sizes = ("batch", "rows", "columns")
        same = all(getattr(one, size) == getattr(other, size) for size in sizes)
        inside = {id(s) for s in walk(other.epilogue.body)}
        indices = [load.immediate.index for load in loads]
        places = [_place(other, buffers[0], index) for index in indices]
        own = all(place == own_element(other) for place in places)
        return same and own and all(id(load) in inside for load in loads)
    if not same_rows(one, other):
        return False
    row = Dim.symbol(other.variable) * one.columns
    loops = [_loop_of(other, load) for load in loads]
    return all(
        loop is not None and place == row + Dim.symbol(loop.variable)
        for place, loop in zip(places, loops, strict=True)
    )


def same_rows(contract: Contract, nest: For) -> bool:
    """Whether each task of a nest goes with a row of a product, and its lanes with the columns."""
    loops = [s for s in walk(nest.body) if isinstance(s, For)]
    return (
        nest.start == 0
        and nest.stop == contract.batch * contract.rows
        and bool(loops)
        and all(s.role == "vector" and (s.start, s.stop) == (0, contract.columns) for s in loops)
        and all(s in nest.body.statements for s in loops)
    )


def _loop_of(nest: For, value: Value) -> For | None:
    """The loop directly within a nest that holds a value."""
    for loop in nest.body.statements:
        if isinstance(loop, For) and any(s is value for s in loop.body.statements):
            return loop
    return None


def _loads(kernel: Kernel, buffer: Buffer) -> Iterator[Value]:
    for scope in scopes(kernel):
        for s in walk(scope):
            if isinstance(s, Value) and s.opcode == "load" and s.immediate.buffer is buffer:
                yield s


def _loaded(kernel: Kernel) -> set[Buffer]:
    return {
        s.immediate.buffer
        for scope in scopes(kernel)
        for s in walk(scope)
        if isinstance(s, Value) and s.opcode == "load"
    }


__all__ = ["chain_products", "handed_candidates", "own_element", "reads_own", "same_rows"]
