"""Which loops of a plan run on the device?  Those of little work: one block does all their rounds.

A launch takes a GPU some microseconds, and the test of a `while` must come back to the host before
the next round: where a round is less work than that, one block does what its launches would do, one
after the other with a barrier between, and goes on by itself. Every launch is a function of the
device (as where several are one launch, `together`), told that it is the only block. Larger
rounds stay launches, for a block has but one multiprocessor.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeGuard

from graphc.codegen.cuda.kernel import CudaKernel, Parameter, launch_bounds
from graphc.codegen.cuda.together import PART_BLOCK, Parameters, Part
from graphc.codegen.loops import Contract, scopes
from graphc.codegen.program import (
    Chain,
    Launch,
    Loop,
    Operand,
    Statement,
    Switch,
    Together,
    While,
    bodies,
)
from graphc.codegen.scalar import Check, walk
from graphc.dims import Dim, Extent, affine, symbols_of

# Element operations of one round, multiply-adds of products included: what a block does while a
# launch, or the host between two rounds of a `while`, would be waited for.
MOST_WORK_OF_ROUND, MOST_WORK_OF_TEST = 1 << 18, 1 << 20
# Launches in the text of a loop.
MOST_LAUNCHES = 24


def runs_on_device(statement: Statement) -> TypeGuard[Loop | While]:
    """Whether one block may do a loop by itself."""
    if not isinstance(statement, (Loop, While)):
        return False
    launches = launches_of(statement)
    most = MOST_WORK_OF_TEST if _tests(statement) else MOST_WORK_OF_ROUND
    if launches is None or not 0 < len(launches) <= MOST_LAUNCHES:
        return False
    work = [_work(launch) for launch in launches]
    return all(each is not None for each in work) and sum(work) <= most  # type: ignore[arg-type]


def launches_of(statement: Statement) -> list[Launch] | None:
    """The launches in a statement, None if there is anything that cannot be in a kernel."""
    if isinstance(statement, Launch):
        return [statement]
    if isinstance(statement, (Chain, Together)):
        inner: Sequence[Statement] = statement.launches
    elif isinstance(statement, (Loop, While, Switch)):
        inner = [s for body in bodies(statement) for s in body]
    else:
        return None
    found: list[Launch] = []
    for each in inner:
        launches = launches_of(each)
        if launches is None:
            return None
        found += launches
    return found


def _tests(statement: Statement) -> bool:
    """Whether a loop has a choice that a host would have to wait for."""
    if isinstance(statement, (While, Switch)):
        return True
    return any(_tests(inner) for body in bodies(statement) for inner in body)


def _work(launch: Launch) -> int | None:
    """Element operations of a launch; None if they are not known."""
    work: Extent = launch.work
    nest = launch.kernel.nest
    if isinstance(nest, Contract):
        work = nest.batch * nest.rows * nest.columns * nest.depth
    return work if isinstance(work, int) else None


class LoopPrinter:
    """Writes a loop as a kernel of one block.

    `part` makes the function of a launch for a lone block, with its arguments, and is told the
    lengths of the loops around it by their variables; `place` says where an operand is, `size`
    makes the argument of an extent, `status` is that of the status record.
    """

    def __init__(
        self,
        part: Callable[[Launch | Chain, Mapping[str, Extent]], Part],
        place: Callable[[Operand], Any],
        size: Callable[[Extent], Any],
        status: Any,
    ) -> None:
        self.part, self.place, self.size, self.status = part, place, size, status
        self.names = Parameters()
        self.functions: dict[str, CudaKernel] = {}
        self.variables: dict[str, Extent] = {}  # of the loops around, with their lengths
        self.lines: list[str] = []
        self.can_fail = False

    def kernel(self, statement: Loop | While) -> tuple[CudaKernel, list[Any]] | None:
        """The kernel and its arguments; None if some argument does not move in even steps."""
        try:
            self.statement(statement, 1)
        except _Uneven:
            return None
        shared = max(function.shared_bytes for function in self.functions.values())
        if shared:
            self.lines.insert(0, f"    __shared__ __align__(16) unsigned char shared[{shared}];")
        parameters = tuple(self.names.found.values())
        helpers: dict[str, str] = {}
        for function in self.functions.values():
            helpers |= function.helpers
        helpers |= {name: function.text for name, function in self.functions.items()}
        listed = ",\n    ".join(f"{p.type} {p.name}" for p in parameters)
        body = "\n".join(["{", *self.lines, "}"])
        digest = hashlib.blake2b("\0".join([listed, body, *helpers]).encode(), digest_size=5)
        titles = list(dict.fromkeys(name.split("_")[0] for name in self.functions))
        name = f"loop_of_{'_and_'.join(titles[:3])}_{digest.hexdigest()}"
        bounds = launch_bounds(PART_BLOCK, None)
        head = f'extern "C" __global__ void {bounds} {name}(\n    {listed})'
        made = CudaKernel(
            name, PART_BLOCK, shared, parameters, f"{head}\n{body}", helpers, self.can_fail
        )
        return made, [argument for argument, _ in self.names.found]

    # -- statements --------------------------------------------------------------------------------

    def put(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def statements(self, body: Sequence[Statement], depth: int) -> None:
        for statement in body:
            self.statement(statement, depth)

    def statement(self, statement: Statement, depth: int) -> None:
        if isinstance(statement, Together):
            for number, launch in enumerate(statement.launches):
                # they use the same shared memory
                self.call(launch, depth, barrier=number == len(statement.launches) - 1)
        elif isinstance(statement, (Launch, Chain)):
            self.call(statement, depth)
        elif isinstance(statement, Loop):
            self.loop(statement, depth)
        elif isinstance(statement, While):
            self.repeat(statement, depth)
        else:
            assert isinstance(statement, Switch)
            self.choice(statement, depth)

    def loop(self, loop: Loop, depth: int) -> None:
        variable, length = loop.variable, self.extent(loop.length)
        first, test, step = "0", f"{variable} < {length}", f"++{variable}"
        if loop.reverse:
            first, test, step = f"{length} - 1", f"{variable} >= 0", f"--{variable}"
        self.put(depth, f"for (long long {variable} = {first}; {test}; {step}) {{")
        self.variables[variable] = loop.length
        self.statements(loop.body, depth + 1)
        del self.variables[variable]
        self.put(depth, "}")

    def repeat(self, loop: While, depth: int) -> None:
        self.put(depth, "for (;;) {")
        self.statements(loop.test, depth + 1)
        condition = self.pointer(self.place(loop.condition), _pointer_to("unsigned char"), 1)
        self.put(depth + 1, f"if (*({condition}) == 0) break;")
        if any(self._may_fail(s) for s in (*loop.test, *loop.body)):
            name = self.names.name(self.status, _STATUS)
            self.put(depth + 1, f"if ({name}[0] != 0) break;")
        self.put(depth + 1, "__syncthreads();  // all have read what the next test writes")
        self.statements(loop.body, depth + 1)
        self.put(depth, "}")

    def choice(self, switch: Switch, depth: int) -> None:
        index = self.pointer(self.place(switch.index), _pointer_to("long long"), 8)
        name = f"choice{len(self.lines)}"
        self.put(depth, f"const long long {name} = *({index});")
        self.put(depth, "__syncthreads();  // all have read what a branch may write over")
        last = len(switch.branches) - 1
        for number, branch in enumerate(switch.branches):
            test = f"{name} <= 0" if number == 0 else f"{name} == {number}"
            head = "{" if number == last else f"if ({test}) {{"
            self.put(depth, head if number == 0 else f"}} else {head}")
            self.statements(branch, depth + 1)
        self.put(depth, "}")

    def call(self, launch: Launch | Chain, depth: int, barrier: bool = True) -> None:
        part = self.part(launch, self.variables)
        function = part.function
        self.functions[function.name] = function
        self.can_fail |= function.can_fail
        pairs = zip(part.arguments, function.parameters, strict=True)
        listed = [self.argument(argument, like) for argument, like in pairs]
        listed += ["0", "1", *["shared"] * bool(function.shared_bytes)]
        inner = "    " * (depth + 1)
        self.put(depth, f"{function.name}(\n{inner}{', '.join(listed)});")
        if barrier or function.shared_bytes:
            self.put(depth, "__syncthreads();")

    def _may_fail(self, statement: Statement) -> bool:
        launches = launches_of(statement) or []
        return any(
            isinstance(s, Check)
            for launch in launches
            for scope in scopes(launch.kernel)
            for s in walk(scope)
        )

    # -- arguments ---------------------------------------------------------------------------------

    def argument(self, argument: Any, like: Parameter) -> str:
        """The text of an argument of a function, made of parameters and variables of loops."""
        if like.kind == "buffer":
            return self.pointer(argument, like, _bytes_of(like.type))
        extent = getattr(argument, "extent", None)
        if extent is None or not symbols_of(extent) & self.variables.keys():
            return self.names.name(argument, like)
        if isinstance(extent, Dim) and extent in map(Dim.symbol, self.variables):
            return str(extent)
        raise _Uneven

    def extent(self, extent: Extent) -> str:
        if isinstance(extent, int):
            return str(extent)
        if symbols_of(extent) & self.variables.keys():
            raise _Uneven
        return self.names.name(self.size(extent), Parameter("extent", "length", "long long"))

    def pointer(self, place: Any, like: Parameter, size: int) -> str:
        """A pointer that moves with the variables of loops, in whole elements.

        No parameter is called `__restrict__`: what a launch reads the one before has written.
        """
        offset, steps = place.offset, []
        for variable in self.variables:
            split = affine(offset, variable)
            if split is None or not isinstance(split[0], int) or split[0] % size:
                raise _Uneven
            if split[0]:
                steps.append(f" + {split[0] // size} * {variable}")
            offset = split[1]
        base = type(place)(place.space, place.index, offset)
        type_ = like.type.replace(" __restrict__", "")
        return self.names.name(base, Parameter("buffer", like.name, type_)) + "".join(steps)


class _Uneven(Exception):
    """An argument does not move in even steps."""


_STATUS = Parameter("status", "status", "unsigned long long*")
_SIZES = {"char": 1, "short": 2, "int": 4, "unsigned": 4, "long": 8, "float": 4, "double": 8}


def _pointer_to(type_: str) -> Parameter:
    return Parameter("buffer", "p", f"const {type_}*")


def _bytes_of(type_: str) -> int:
    """Of what a pointer of a parameter points to."""
    return _SIZES[type_.removesuffix(" __restrict__").rstrip("*").split()[-1]]


__all__ = ["LoopPrinter", "launches_of", "runs_on_device"]
