"""Which instructions may a kernel execute? About forty scalar opcodes, and the scopes they live in.

Every backend prints exactly these and nothing else, so a new mathematical function is a procedure
over them (`vecmath`), never a new opcode; a `Routine` is a procedure that many calls share. A
`Value` is the instruction that computes it. Emitting goes through a `Scope`, which value-numbers
instructions and places each in the outermost scope in which its arguments exist: sharing and the
hoisting of loop-invariant code happen by construction.

The NumPy function beside each opcode is its meaning; the kernel interpreter calls it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from graphc.codegen import softfloat
from graphc.dims import Extent, symbols_of

FLOATS = ("float16", "bfloat16", "float32", "float64")
HALVES = ("float16", "bfloat16")
SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGERS = SIGNED + UNSIGNED
DTYPES = ("bool", *INTEGERS, *FLOATS)
BITS = {"bool": 1, "bfloat16": 16} | {
    name: np.dtype(name).itemsize * 8 for name in (*INTEGERS, "float16", "float32", "float64")
}


def item_bytes(dtype: str) -> int:
    """Bytes of a value in memory; a bool takes one."""
    return max(1, BITS[dtype] // 8)


@dataclass(frozen=True)
class Opcode:
    """One instruction: its arity, the dtypes it accepts, its result, and its meaning on NumPy
    arrays.

    `domain` is the set of dtypes of the operands (all equal, unless `select`); `result` is "same"
    for the operands' dtype, "bool" for comparisons, "stated" when the instruction names it.
    """

    name: str
    arity: int
    domain: tuple[str, ...]
    numpy: Callable[..., Any] | None
    result: str = "same"


_INDEX_OF_TABLE = {"float32": "uint32", "float64": "uint64"}


def _quotient(a: Any, b: Any) -> Any:
    """Integer division that truncates; division by zero gives 0 (a `Check` reports it)."""
    safe = np.where(b == 0, 1, b).astype(np.asarray(b).dtype)
    with np.errstate(over="ignore", divide="ignore"):
        quotient = np.floor_divide(a, safe)
        inexact = (quotient * safe != a) & ((np.asarray(a) < 0) != (safe < 0))
    return np.where(b == 0, 0, quotient + inexact).astype(np.asarray(a).dtype)


def _remainder(a: Any, b: Any) -> Any:
    with np.errstate(over="ignore"):
        return np.where(b == 0, 0, a - _quotient(a, b) * b).astype(np.asarray(a).dtype)


def _shift_amount(a: Any, b: Any) -> Any:
    """Shift amounts are taken modulo the width, as hardware does."""
    return b & (np.asarray(a).dtype.itemsize * 8 - 1)


def _high_product(a: Any, b: Any) -> Any:
    """The upper half of the double-width product."""
    dtype = np.asarray(a).dtype
    bits = dtype.itemsize * 8
    wide = np.asarray(a).astype(object) * np.asarray(b).astype(object)
    return np.asarray(wide >> bits, dtype=object).astype(dtype)


# How many numbers a table has: the least that is worth a table, and what the registers of the
# processors that look a number up in a register by one instruction hold.
TABLE_ENTRIES = 16


def entry_of(index: Any, table: Sequence[float], dtype: str) -> Any:
    """The number in a table at a position, whose upper bits do not matter."""
    return np.array(table, dtype)[np.asarray(index) % TABLE_ENTRIES]


_ANY = DTYPES
_NUMBERS = INTEGERS + FLOATS
_BITWISE = ("bool", *INTEGERS)

OPCODES: dict[str, Opcode] = {
    opcode.name: opcode
    for opcode in (
        # sources of values: immediates, index expressions, memory, finished accumulators, arguments
        Opcode("const", 0, _ANY, None, "stated"),
        Opcode("index", -1, ("int64",), None, "stated"),
        Opcode("load", -1, _ANY, None, "stated"),
        Opcode("result", 0, _ANY, None, "stated"),
        Opcode("parameter", 0, _ANY, None, "stated"),
        # a routine out of line: the immediate
        Opcode("call", -1, _ANY, None, "stated"),
        # arithmetic
        Opcode("add", 2, _NUMBERS, np.add),
        Opcode("sub", 2, _NUMBERS, np.subtract),
        Opcode("mul", 2, _NUMBERS, np.multiply),
        Opcode("div", 2, FLOATS, np.divide),
        Opcode("quotient", 2, INTEGERS, _quotient),
        Opcode("remainder", 2, INTEGERS, _remainder),
        Opcode("neg", 1, _NUMBERS, np.negative),
        Opcode("abs", 1, _NUMBERS, np.abs),
        Opcode("fma", 3, ("float32", "float64"), softfloat.fma),
        Opcode("sqrt", 1, FLOATS, np.sqrt),
        Opcode("min", 2, _NUMBERS, np.minimum),
        Opcode("max", 2, _NUMBERS, np.maximum),
        Opcode("copysign", 2, FLOATS, np.copysign),
        Opcode("floor", 1, FLOATS, np.floor),
        Opcode("ceil", 1, FLOATS, np.ceil),
        Opcode("trunc", 1, FLOATS, np.trunc),
        Opcode("rint", 1, FLOATS, np.rint),
        # bits
        Opcode("and", 2, _BITWISE, np.bitwise_and),
        Opcode("or", 2, _BITWISE, np.bitwise_or),
        Opcode("xor", 2, _BITWISE, np.bitwise_xor),
        Opcode("not", 1, _BITWISE, np.invert),
        Opcode("shl", 2, INTEGERS, lambda a, b: np.left_shift(a, _shift_amount(a, b))),
        Opcode("shr", 2, INTEGERS, lambda a, b: np.right_shift(a, _shift_amount(a, b))),
        Opcode("mulhi", 2, ("int32", "uint32", "int64", "uint64"), _high_product),
        # comparison: false when an operand is NaN, except ne
        Opcode("eq", 2, _ANY, np.equal, "bool"),
        Opcode("ne", 2, _ANY, np.not_equal, "bool"),
        Opcode("lt", 2, _NUMBERS, np.less, "bool"),
        Opcode("le", 2, _NUMBERS, np.less_equal, "bool"),
        Opcode("gt", 2, _NUMBERS, np.greater, "bool"),
        Opcode("ge", 2, _NUMBERS, np.greater_equal, "bool"),
        # choice and conversion
        Opcode("select", 3, _ANY, np.where),
        Opcode("convert", 1, _ANY, softfloat.convert, "stated"),
        Opcode("bitcast", 1, _ANY, softfloat.bitcast, "stated"),
        # a number of a table, the immediate
        Opcode("lookup", 1, ("uint32", "uint64"), entry_of, "stated"),
    )
}


class Value:
    """One scalar instruction, and the value it computes. Equal only to itself."""

    __slots__ = ("args", "dtype", "immediate", "opcode", "scope")

    def __init__(
        self, scope: Scope, opcode: str, args: tuple[Value, ...], dtype: str, immediate: Any
    ) -> None:
        self.scope = scope
        self.opcode = opcode
        self.args = args
        self.dtype = dtype
        self.immediate = immediate

    def __repr__(self) -> str:
        note = "" if self.immediate is None else f" {self.immediate}"
        return f"<{self.opcode} {self.dtype}{note}>"

    @property
    def is_float(self) -> bool:
        return self.dtype in FLOATS

    @property
    def is_unsigned(self) -> bool:
        return self.dtype in UNSIGNED

    @property
    def is_signed(self) -> bool:
        """Whether this is a signed integer."""
        return self.dtype in SIGNED

    @property
    def bits(self) -> int:
        return BITS[self.dtype]


@dataclass(eq=False)
class Store:
    """Write `value` to `buffer[index]` where `mask` holds. `args` are the values named `_arg0`, ...
    in the index.
    """

    buffer: Any
    index: tuple[Extent, ...]
    value: Value
    args: tuple[Value, ...] = ()
    mask: Value | None = None


@dataclass(eq=False)
class Accumulator:
    """State of a loop: starts at the combiner's identity, ends as the value `result` after the
    loop.
    """

    combiner: str
    dtype: str


@dataclass(eq=False)
class Accumulate:
    """Combine `value` into `accumulator` where `mask` holds; with a `factor`, the product of both,
    which a sum of products takes rounded or not, as a contraction does.
    """

    accumulator: Accumulator
    value: Value
    mask: Value | None = None
    factor: Value | None = None


@dataclass(eq=False)
class Check:
    """Record status `code` for checked node `node` with detail `index` where `condition` is false.
    """

    condition: Value
    code: int
    node: int
    index: Value


@dataclass(eq=False)
class Barrier:
    """What lanes of this task have stored before, every lane of it may load and replace after."""


@dataclass(eq=False)
class Until:
    """The last statement of a loop in order: once `condition` holds, further iterations would
    change nothing, and a printer leaves them out. Lanes that run together ask for all of them.
    """

    condition: Value


@dataclass(eq=False)
class Library:
    """Let a routine of a library (`graphc.codegen.lapack`) work on scratch of the task, if
    `condition` holds: what lanes have stored there it sees, what it stores there lanes may load.

    `routine` names an entry of the table for `dtype`; `buffers` and `sizes` are what it asks for.
    `outcome`, a value of opcode "result" whose immediate is this statement, is what it says, an
    int64: 0 for success, and `NOT_ASKED` where the condition does not hold; the scratch may then be
    loaded, whatever is in it.
    """

    routine: str
    dtype: str
    buffers: tuple[Any, ...]
    sizes: tuple[Extent, ...]
    condition: Value
    outcome: Value = field(init=False)


ROLES = ("parallel", "vector", "serial")


@dataclass(eq=False)
class For:
    """`for variable in range(start, stop)`; what iterations may assume of each other is the role.

    A `segment` is one of the loops, without loops inside, into which a long body has been cut: a
    printer may make a function of it. A `straight` one is arithmetic without conditions, a `full`
    one goes over whole vectors of elements of 4 bytes or more.
    """

    variable: str
    start: Extent
    stop: Extent
    role: str
    body: Scope
    accumulators: list[Accumulator]
    segment: bool = False
    straight: bool = False
    full: bool = False


# Value | Store | Accumulate | Check | Barrier | Until | Library | For | loops.Contract
Statement = Any


class Scope:
    """A list of statements, inside a loop body or at the top of a kernel. Building a kernel is
    calling its methods.

    The methods named after opcodes (`k.add(a, b)`) come with operators on nothing: values stay
    plain data, the builder is explicit. Numbers are accepted for operands and become constants of
    the other operand's dtype.
    """

    def __init__(
        self,
        parent: Scope | None = None,
        variables: tuple[str, ...] = (),
        calls_routines: bool = False,
        fast: bool = False,
        tables: bool = False,
    ) -> None:
        """With `calls_routines` procedures are called out of line, here and in inner scopes; `fast`
        takes the cheaper ones where there are some, `tables` those that look numbers up.
        """
        self.parent = parent
        self.calls_routines: bool = calls_routines if parent is None else parent.calls_routines
        self.fast: bool = fast if parent is None else parent.fast
        self.tables: bool = tables if parent is None else parent.tables
        self.variables = frozenset(variables)
        self.depth: int = 0 if parent is None else parent.depth + 1
        self.statements: list[Statement] = []
        self.written: set[Any] = set() if parent is None else parent.written
        self._numbers: dict[Any, Value] = {}
        self._counter: list[int] = [0] if parent is None else parent._counter

    if TYPE_CHECKING:  # the methods named after opcodes come from their table, below

        def __getattr__(self, name: str) -> Callable[..., Value]: ...

    # -- emitting ------------------------------------------------------------------------------

    def emit(
        self, opcode: str, *args: Value, dtype: str | None = None, immediate: Any = None
    ) -> Value:
        """The value of an instruction: the existing one if it was emitted before where we can see
        it.
        """
        for value in args:
            if value.scope is self:  # no scope further out has it
                home = self
                break
        else:
            home = self._home(args, immediate)
        key: tuple[Any, ...] = (opcode, args)
        if dtype is not None or immediate is not None:
            key = (opcode, args, dtype, None if immediate is None else _immediate_key(immediate))
        found = home._numbers.get(key)
        if found is None:
            result = dtype or _result_dtype(opcode, *[value.dtype for value in args])
            found = Value(home, opcode, args, result, immediate)
            home._numbers[key] = found
            home.statements.append(found)
        return found

    def emitted(self, opcode: str, args: tuple[Value, ...]) -> Value:
        """As `emit`, of what operands alone decide: nearly all that there is."""
        home = args[0].scope
        for value in args:
            if value.scope.depth > home.depth:
                home = value.scope
        key = opcode, args
        found = home._numbers.get(key)
        if found is None:
            result = _result_dtype(opcode, *[value.dtype for value in args])
            found = home._numbers[key] = Value(home, opcode, args, result, None)
            home.statements.append(found)
        return found

    def _home(self, args: tuple[Value, ...], immediate: Any) -> Scope:
        """The outermost scope in which the arguments, and the loop variables of an index, exist."""
        if immediate is None and args:  # where the innermost of them is
            home = args[0].scope
            for value in args:
                if value.scope.depth > home.depth:
                    home = value.scope
            return home
        depth = max([value.scope.depth for value in args], default=0)
        names: frozenset[str] = frozenset()
        if isinstance(immediate, Address):
            if immediate.buffer in self.written:
                return self
            names = immediate.symbols
        elif immediate is not None and hasattr(immediate, "symbols"):
            names = immediate.symbols
        scope: Scope = self
        while scope.depth > depth and not (names & scope.variables):
            assert scope.parent is not None
            scope = scope.parent
        return scope

    def const(self, value: Any, dtype: str) -> Value:
        """A constant, exactly representable or rounded to nearest in `dtype`."""
        if dtype in FLOATS:
            immediate: Any = softfloat.round_to(value, dtype)
        elif dtype == "bool":
            immediate = bool(value)
        else:
            immediate = int(value)
        return self.emit("const", dtype=dtype, immediate=immediate)

    def index(self, extent: Extent, args: tuple[Value, ...] = ()) -> Value:
        """The int64 value of an index expression."""
        if isinstance(extent, int):
            return self.const(extent, "int64")
        return self.emit("index", *args, dtype="int64", immediate=extent)

    def load(
        self,
        buffer: Any,
        index: tuple[Extent, ...],
        args: tuple[Value, ...] = (),
        mask: Value | None = None,
        fill: Value | None = None,
    ) -> Value:
        """`buffer[index]`; where `mask` is false memory is not touched and the value is `fill`."""
        address = Address(buffer, tuple(index), len(args))
        if mask is not None:
            args = (*args, mask, fill if fill is not None else self.const(0, buffer.dtype))
        if buffer in self.written:  # never shared: a store may lie between
            value = Value(self, "load", args, buffer.dtype, address)
            self.statements.append(value)
            return value
        return self.emit("load", *args, dtype=buffer.dtype, immediate=address)

    def store(
        self,
        buffer: Any,
        index: tuple[Extent, ...],
        value: Value,
        args: tuple[Value, ...] = (),
        mask: Value | None = None,
    ) -> None:
        self.written.add(buffer)
        self.statements.append(Store(buffer, tuple(index), value, args, mask))

    def check(self, condition: Value, code: int, node: int, index: Value) -> None:
        self.statements.append(Check(condition, code, node, index))

    def barrier(self) -> None:
        self.statements.append(Barrier())

    def until(self, condition: Value) -> None:
        self.statements.append(Until(condition))

    def library(
        self,
        routine: str,
        dtype: str,
        buffers: Sequence[Any],
        sizes: Sequence[Extent],
        condition: Value,
    ) -> Value:
        """The outcome of a routine of a library, which works where `condition` holds."""
        self.written.update(buffers)
        asked = Library(routine, dtype, tuple(buffers), tuple(sizes), condition)
        asked.outcome = Value(self, "result", (), "int64", asked)
        self.statements.append(asked)
        return asked.outcome

    def convert(self, value: Value, dtype: str) -> Value:
        return value if value.dtype == dtype else self.emit("convert", value, dtype=dtype)

    def bitcast(self, value: Value, dtype: str) -> Value:
        return value if value.dtype == dtype else self.emit("bitcast", value, dtype=dtype)

    def lookup(self, index: Value, table: Sequence[float], dtype: str) -> Value:
        """The number in `table` at `index` modulo its length, `TABLE_ENTRIES`.

        The index is an unsigned integer as wide as `dtype`, float32 or float64.
        """
        if len(table) != TABLE_ENTRIES or index.dtype != _INDEX_OF_TABLE.get(dtype):
            raise TypeError(f"a lookup of {dtype} in {len(table)} numbers by {index.dtype}")
        rounded = tuple(float(softfloat.round_to(each, dtype)) for each in table)
        return self.emit("lookup", index, dtype=dtype, immediate=rounded)

    def call(self, name: str, *args: Value) -> Any:
        """The value, or the values, of the mathematical procedure `name`: a copy of it, or a call.
        """
        if self.calls_routines and all(isinstance(a, Value) and a.opcode != "const" for a in args):
            from graphc.codegen.routines import routine

            dtypes = tuple(value.dtype for value in args)
            found = routine(name, dtypes, self._takes_fast(name), self.tables)
            if found is not None:
                return self.emit("call", *args, dtype=found.result.dtype, immediate=found)
        return self.copy(name, *args)

    def copy(self, name: str, *args: Value) -> Any:
        """The value, or the values, of a copy of a procedure."""
        from graphc.codegen import exact
        from graphc.codegen.vecmath import procedures as vecmath

        procedures = vecmath.FAST if self._takes_fast(name) else vecmath.PROCEDURES
        return (exact.PROCEDURES.get(name) or procedures[name])(self, *args)

    def _takes_fast(self, name: str) -> bool:
        from graphc.codegen.vecmath import procedures as vecmath

        return self.fast and name in vecmath.FAST

    # -- loops ---------------------------------------------------------------------------------

    def fresh_variable(self, prefix: str = "i") -> str:
        self._counter[0] += 1
        return f"{prefix}{self._counter[0]}"

    def loop(self, role: str, start: Extent, stop: Extent, prefix: str = "i") -> LoopBuilder:
        """Open a loop: `with scope.loop("vector", 0, n) as loop: loop.body.store(...)`."""
        return LoopBuilder(self, role, start, stop, self.fresh_variable(prefix))


@dataclass(eq=False)
class Routine:
    """A procedure out of line: values over `parameters`, without memory or loops, and the one that
    is its result. `also` is another of a routine that stands for two, see `routines.joined`.
    """

    name: str
    parameters: tuple[Value, ...]
    body: Scope
    result: Value
    procedure: str = ""
    also: Value | None = None


class LoopBuilder:
    """A loop under construction; it joins its parent when the `with` block ends, after what was
    hoisted from it.
    """

    def __init__(self, parent: Scope, role: str, start: Extent, stop: Extent, variable: str):
        self.parent = parent
        self.body = Scope(parent, (variable,))
        self.variable = variable
        self.loop = For(variable, start, stop, role, self.body, [])

    def __enter__(self) -> LoopBuilder:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if kind is None:
            self.close()

    def close(self) -> None:
        """Join the parent: the loop is complete."""
        self.parent.statements.append(self.loop)

    def accumulate(
        self,
        combiner: str,
        value: Value,
        mask: Value | None = None,
        factor: Value | None = None,
    ) -> Accumulator:
        """Accumulate `value`, or its product with a factor, over the loop; read the result with
        `result` after the loop has closed.
        """
        accumulator = Accumulator(combiner, value.dtype)
        self.loop.accumulators.append(accumulator)
        self.body.statements.append(Accumulate(accumulator, value, mask, factor))
        return accumulator

    def result(self, accumulator: Accumulator) -> Value:
        value = Value(self.parent, "result", (), accumulator.dtype, accumulator)
        self.parent.statements.append(value)
        return value


class Address:
    """The immediate of a load: a buffer and an index; the first `count` args of the load are its
    `_arg` values.
    """

    __slots__ = ("buffer", "count", "index", "symbols")

    def __init__(self, buffer: Any, index: tuple[Extent, ...], count: int) -> None:
        self.buffer = buffer
        self.index = index
        self.count = count
        self.symbols: frozenset[str] = frozenset().union(*map(symbols_of, index))

    def __repr__(self) -> str:
        return f"{self.buffer.name}[{', '.join(map(str, self.index))}]"


def _immediate_key(immediate: Any) -> Any:
    if isinstance(immediate, Address):
        return (id(immediate.buffer), immediate.index)
    # keeps -0.0 apart from 0.0, NaN equal to itself
    if isinstance(immediate, (float, np.floating)):
        return np.float64(immediate).tobytes()
    if isinstance(immediate, Accumulator):
        return id(immediate)
    if isinstance(immediate, tuple):
        return np.array(immediate).tobytes()
    return immediate


@functools.cache
def _result_dtype(opcode: str, *dtypes: str) -> str:
    """The dtype of an instruction's result; `TypeError` for operands that it does not take."""
    record = OPCODES[opcode]
    if record.arity >= 0 and len(dtypes) != record.arity:
        raise TypeError(f"{opcode} takes {record.arity} operands, got {len(dtypes)}")
    assert record.result != "stated", f"{opcode} must state its dtype"
    operands = dtypes
    if opcode == "select":
        if dtypes[0] != "bool":
            raise TypeError(f"select needs a bool condition, got {dtypes[0]}")
        operands = dtypes[1:]
    first = operands[0]
    if first not in record.domain or any(dtype != first for dtype in operands):
        raise TypeError(f"{opcode} of {', '.join(dtypes)}")
    return "bool" if record.result == "bool" else first


def _operand(scope: Scope, value: Any, dtype: str) -> Value:
    return value if isinstance(value, Value) else scope.const(value, dtype)


def _method(name: str) -> Callable[..., Value]:
    def emit(self: Scope, *operands: Any) -> Value:
        for operand in operands:
            if type(operand) is not Value:
                break
        else:
            return self.emitted(name, operands)
        skip = 1 if name == "select" else 0
        dtype = next(value.dtype for value in operands[skip:] if isinstance(value, Value))
        values = [_operand(self, value, dtype) for value in operands[skip:]]
        return self.emit(name, *operands[:skip], *values)

    emit.__name__ = name
    emit.__doc__ = f"The `{name}` of values (numbers become constants of the same dtype)."
    return emit


_STATED = {
    *("const", "index", "load", "result", "parameter", "call", "convert", "bitcast", "lookup"),
}
for _name in OPCODES.keys() - _STATED:
    setattr(Scope, _name + "_" if _name in ("and", "or", "not") else _name, _method(_name))


def walk(scope: Scope) -> Iterator[Statement]:
    """Every statement of a scope and of the loops in it, in order."""
    stack = [iter(scope.statements)]
    while stack:
        for statement in stack[-1]:
            yield statement
            if type(statement) is For:
                stack.append(iter(statement.body.statements))
                break
        else:
            stack.pop()


def loops_in(scope: Scope) -> Iterator[For]:
    """Every loop of a scope and of the loops in it, in order. Segments hold none: their thousands
    of statements are not looked at.
    """
    stack = [iter(scope.statements)]
    while stack:
        for statement in stack[-1]:
            if type(statement) is For:
                yield statement
                if not statement.segment:
                    stack.append(iter(statement.body.statements))
                    break
        else:
            stack.pop()


def count_statements(scope: Scope) -> int:
    """How many statements a scope and the loops in it have."""
    inside = sum(len(loop.body.statements) for loop in loops_in(scope))
    return len(scope.statements) + inside
