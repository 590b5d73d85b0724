"""How are kernels written in languages like C?  What CUDA C++ and C have in common.

Statements become lines, values become constants with names, index expressions become arithmetic on
64-bit integers; what does not vary in a loop is named in front of it. How loops run, who stores and
how accumulators end is each language's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphc.codegen.clike_scalar import Dialect
from graphc.codegen.loops import Buffer, Contract, Kernel, linear, scopes, stride_name
from graphc.codegen.memory import storage_bytes
from graphc.codegen.program import Launch, Storage
from graphc.codegen.rare import Rare, rarely_needed
from graphc.codegen.scalar import (
    TABLE_ENTRIES,
    Accumulate,
    Accumulator,
    Address,
    Barrier,
    Check,
    For,
    Routine,
    Scope,
    Store,
    Until,
    Value,
    walk,
)
from graphc.dims import Bounds, Compound, Extent, dim_max, symbols_of
from graphc.origin import location

# Source lines and nodes named in the comment above a kernel.
LISTED = 8
WIDTH = 100


@dataclass(eq=False)
class Level:
    """A block of the text under construction; what does not vary in it still goes in front of it.

    `variables` are the names of index arithmetic that have a value from here on, with their names
    in the text; `lanes` tells whether each thread is at an index of its own.
    """

    parent: Level | None
    depth: int
    lanes: bool = False
    variables: dict[str, str] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    named: dict[str, str] = field(default_factory=dict)

    def put(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    def inner(self, variables: Mapping[str, str] | None = None, lanes: bool = False) -> Level:
        return Level(self, self.depth + 1, self.lanes or lanes, dict(variables or {}))

    def close(self, head: str, inner: Level) -> None:
        """Add a finished block."""
        self.put(f"{head} {{")
        self.lines.extend(inner.lines)
        self.put("}")

    def chain(self) -> Iterator[Level]:
        level: Level | None = self
        while level is not None:
            yield level
            level = level.parent


class IndexPrinter:
    """Writes extents as arithmetic on integers of type `INTEGER`.

    `MINIMUM` and `MAXIMUM` are functions of two such integers, where literals end in `LONG`;
    `bounds` knows the ranges of names.
    """

    DIALECT: Dialect
    INTEGER: str
    MINIMUM: str
    MAXIMUM: str
    LONG = ""

    def __init__(self, bounds: Bounds) -> None:
        self.bounds = bounds
        self.helpers: dict[str, str] = {}
        self.conditions: dict[str, set[str]] = {}
        self._count = 0

    def fresh(self, prefix: str) -> str:
        self._count += 1
        return f"{prefix}{self._count}"

    def helper(self, *names: str, condition: str = "") -> None:
        """Note helpers that the text calls, those that they need first; under which conditions of
        the preprocessor, if not always, is noted as well.
        """
        for name in names:
            found = self.DIALECT.helpers[name]
            self.helper(*found.needs, condition=found.condition or condition)
            self.helpers.setdefault(name, found.text)
            self.conditions.setdefault(name, set()).add(condition)

    def mark_used(self, name: str) -> None:
        """A name of the outermost level is used."""

    def home(self, level: Level, symbols: Iterable[str], names: Mapping[str, str]) -> Level:
        """The outermost level at which all of these names have a value."""
        wanted = set(symbols)
        if wanted & names.keys():
            return level
        for each in level.chain():
            if each.parent is None or wanted & each.variables.keys():
                return each
        return level

    def named(self, home: Level, text: str) -> str:
        """A name for an index expression, one for all its uses."""
        if re.fullmatch(r"\w+", text):
            return text
        found = home.named.get(text)
        if found is None:
            found = home.named[text] = self.fresh("q")
            home.put(f"const {self.INTEGER} {found} = {text};")
        return found

    def index(self, level: Level, extent: Extent, names: Mapping[str, str] | None = None) -> str:
        """An extent as an expression, with names for what does not vary at `level`."""
        if isinstance(extent, int):
            return str(extent)
        return self.terms(level, extent.terms, names or {})

    def terms(self, level: Level, terms: Sequence[Any], names: Mapping[str, str]) -> str:
        """A sum. Terms that do not vary at its innermost level are added up further out."""
        homes = [self.home(level, _symbols_of_term(term), names) for term in terms]
        innermost = max(homes, key=lambda home: home.depth)
        moving = [t for t, h in zip(terms, homes, strict=True) if h is innermost or not t[0]]
        fixed = [t for t in terms if t not in moving]
        text = ""
        if fixed:
            home = max(
                (h for t, h in zip(terms, homes, strict=True) if t in fixed), key=lambda h: h.depth
            )
            text = self.named(home, self.terms(level, fixed, names))
        for term in moving:
            part, negative = self.term(level, term, names)
            sign = "-" if negative else "+"
            text = f"{text} {sign} {part}" if text else ("-" if negative else "") + part
        return text

    def term(self, level: Level, term: Any, names: Mapping[str, str]) -> tuple[str, bool]:
        """A product, and whether it is to be subtracted."""
        monomial, coefficient = term
        factors = [self.atom(level, atom, names) for atom, power in monomial for _ in range(power)]
        if abs(coefficient) != 1 or not factors:
            factors.append(str(abs(coefficient)))
        return " * ".join(factors), coefficient < 0

    def atom(self, level: Level, atom: str | Compound, names: Mapping[str, str]) -> str:
        if isinstance(atom, str):
            return names[atom] if atom in names else self.variable(level, atom)
        texts = [self.index(level, argument, names) for argument in atom.arguments]
        text = self.compound(atom, texts)
        return self.named(self.home(level, atom.symbols, names), text)

    def variable(self, level: Level, name: str) -> str:
        for each in level.chain():
            if name in each.variables:
                if each.parent is None:
                    self.mark_used(name)
                return each.variables[name]
        raise AssertionError(f"{name} has no value here")

    def compound(self, atom: Compound, texts: Sequence[str]) -> str:
        if atom.operator in ("min", "max"):
            function = self.MINIMUM if atom.operator == "min" else self.MAXIMUM
            text = texts[0]
            for other in texts[1:]:
                text = self.chosen(function, text, other)
            return text
        (dividend, divisor), (a, b) = atom.arguments, texts
        sign, name = ("/", "floor_divide") if atom.operator == "floordiv" else ("%", "floor_modulo")
        ordinary = self.bounds.proves_nonnegative(dividend) and self.bounds.proves_nonnegative(
            divisor
        )
        if not ordinary:
            text = _FLOOR[name].format(q=self.DIALECT.qualifier, i=self.INTEGER)
            self.helpers.setdefault(name, text)
            return f"{name}({a}, {b})"
        if isinstance(divisor, int):
            return f"{enclosed(a)} {sign} {max(divisor, 1)}"
        # of an empty axis nothing is used
        return f"{enclosed(a)} {sign} {self.chosen(self.MAXIMUM, b, '1')}"

    def chosen(self, function: str, a: str, b: str) -> str:
        """The smaller or larger of two integers."""
        if function in self.DIALECT.helpers:
            self.helper(function)
        a, b = (text + self.LONG if text.lstrip("-").isdigit() else text for text in (a, b))
        return f"{function}({a}, {b})"


class StatementPrinter(IndexPrinter):
    """Writes the statements of a kernel that every language writes alike."""

    def __init__(self, kernel: Kernel, groups: Sequence[int]) -> None:
        """`groups` numbers the memory of each buffer: equal numbers share some."""
        super().__init__(Bounds(_ranges(kernel)))
        self.kernel = kernel
        self.group = dict(zip(kernel.buffers, groups, strict=True))
        self.stored = set(kernel.written())
        written = {self.group[buffer] for buffer in self.stored}
        self.writes = {buffer for buffer in kernel.buffers if self.group[buffer] in written}
        self.live = _live(kernel)
        self.results: dict[Accumulator, list[Value]] = {}
        for scope in scopes(kernel):
            for s in walk(scope):
                if isinstance(s, Value) and isinstance(s.immediate, Accumulator):
                    self.results.setdefault(s.immediate, []).append(s)
        self.words_by_name = self.frame_words()
        self.names: dict[int, str] = {}
        self.states: dict[Accumulator, str] = {}
        self.used: set[tuple[str, Any]] = set()

    def top(self) -> Level:
        """The outermost level of a function, where strides and extents have values."""
        return Level(None, 1, False, {name: text for name, (text, _) in self.words_by_name.items()})

    def mark_used(self, name: str) -> None:
        self.used.add(self.words_by_name[name][1])

    def frame_words(self) -> dict[str, tuple[str, tuple[str, Any]]]:
        """For each stride and extent of the kernel its name in the text, and its word of the frame.
        """
        found: dict[str, tuple[str, tuple[str, Any]]] = {}
        for buffer in self.kernel.buffers:
            if buffer.layout == "strided":
                for axis in range(len(buffer.shape)):
                    word = ("stride", (buffer, axis))
                    found[stride_name(buffer, axis)] = (f"stride_{buffer.name}_{axis}", word)
        for number, name in enumerate(self.kernel.extents):
            found[name] = (self.extent_name(number, name), ("extent", name))
        return found

    def extent_name(self, number: int, name: str) -> str:
        """The name of an extent: not every identifier of Python is one, those beyond ASCII are
        numbered.
        """
        return f"size_{name}" if name.isascii() else f"size_{number}_"

    # -- statements --------------------------------------------------------------------------------

    def scope(self, level: Level, scope: Scope, results: Iterable[Value] = ()) -> None:
        """The statements of a scope, with what is rarely needed behind a branch."""
        for item in self.items(scope, results):
            if isinstance(item, Rare):
                self.rare_branch(level, item)
            else:
                self.statement(level, item)

    def items(self, scope: Scope, results: Iterable[Value] = ()) -> Iterator[Any]:
        """The statements of a scope that have an effect; in place of what is rarely needed, a
        branch.
        """
        branches = rarely_needed(scope, results)
        hidden = {id(v) for rare in branches for v in (*rare.instructions, *rare.selects)}
        starts = {id(rare.selects[0]): rare for rare in branches}
        for statement in scope.statements:
            if id(statement) in starts:
                yield starts[id(statement)]
            elif id(statement) not in hidden and self.has_effect(statement):
                yield statement

    def rare_branch(self, level: Level, rare: Rare) -> None:
        selects = [select for select in rare.selects if id(select) in self.live]
        if not selects:
            return
        for select in selects:
            usual = self.operand(select.args[2])
            name = self.names[id(select)] = self.fresh("v")
            level.put(f"{self.DIALECT.types[select.dtype]} {name} = {usual};")
        inside = level.inner()
        for value in rare.instructions:
            self.statement(inside, value)
        for select in selects:
            inside.put(f"{self.names[id(select)]} = {self.operand(select.args[1])};")
        level.close(f"if ({self.operand(rare.condition)})", inside)

    def statement(self, level: Level, s: Any) -> None:
        if not self.has_effect(s):
            return
        if isinstance(s, Value):
            self.value(level, s)
        elif isinstance(s, Store):
            self.store(level, s)
        elif isinstance(s, Accumulate):
            self.accumulate(level, s)
        elif isinstance(s, Check):
            self.check(level, s)
        elif isinstance(s, Barrier):
            self.barrier(level)
        elif isinstance(s, Until):
            level.put(f"if ({self.operand(s.condition)}) break;")
        elif isinstance(s, For):
            self.loop(level, s)
        else:
            raise AssertionError(f"no such statement: {s!r}")

    def loop(self, level: Level, loop: For) -> None:
        raise NotImplementedError

    def store(self, level: Level, s: Store) -> None:
        raise NotImplementedError

    def accumulate(self, level: Level, s: Accumulate) -> None:
        raise NotImplementedError

    def accumulated(self, s: Accumulate) -> str:
        """What is combined into an accumulator."""
        if s.factor is None:
            return self.operand(s.value)
        dtype, operands = s.value.dtype, [self.operand(s.value), self.operand(s.factor)]
        return f"({self.instruction('mul', operands, [dtype, dtype], dtype)})"

    def check(self, level: Level, s: Check) -> None:
        raise NotImplementedError

    def barrier(self, level: Level) -> None:
        raise NotImplementedError

    def has_effect(self, s: Any) -> bool:
        """Whether a statement stores, checks, orders, or computes or accumulates what is read."""
        if isinstance(s, Value):
            return id(s) in self.live
        if isinstance(s, Accumulate):
            return id(s.accumulator) in self.live
        return not isinstance(s, For) or any(
            self.has_effect(inner) for inner in walk(s.body) if not isinstance(inner, (For, Value))
        )

    def value(self, level: Level, value: Value) -> None:
        if value.opcode in ("const", "result"):
            return  # a literal where it is used; a result has its name from its loop
        if value.opcode == "index":
            names = self.argument_names(value.args)
            text = self.index(level, value.immediate, names)
            home = self.home(level, symbols_of(value.immediate), names)
            self.names[id(value)] = self.named(home, text)
            return
        if value.opcode == "load":
            text = self.load(level, value)
        elif value.opcode == "call":
            text = self.called(value)
        elif value.opcode == "lookup":
            text = self.looked_up(value)
        else:
            text = self.computed(value.opcode, value.args, value.dtype)
        name = self.names[id(value)] = self.fresh("v")
        level.put(f"const {self.DIALECT.types[value.dtype]} {name} = {text};")

    def looked_up(self, value: Value) -> str:
        """An element of a constant array of the text."""
        name, text = self.DIALECT.table(value.immediate, value.dtype)
        self.helpers.setdefault(name, text)
        last, _ = self.DIALECT.literal(TABLE_ENTRIES - 1, value.args[0].dtype)
        return f"{name}[{self.operand(value.args[0])} & {last}]"

    def called(self, value: Value) -> str:
        """The call of a routine, which becomes a function of the text."""
        routine: Routine = value.immediate
        if routine.name not in self.helpers:
            self.helpers[routine.name] = self.routine(routine)  # after those that it calls
        return f"{routine.name}({', '.join(map(self.operand, value.args))})"

    def routine(self, routine: Routine) -> str:
        """The function of a routine, the same in every text."""
        count, self._count = self._count, 0
        types, made = self.DIALECT.types, routine.result
        given = []
        for position, parameter in enumerate(routine.parameters):
            self.names[id(parameter)] = f"x{position}"
            given.append(f"const {types[parameter.dtype]} x{position}")
        self.live |= needed_values(routine)
        level = Level(None, 1)
        StatementPrinter.scope(self, level, routine.body, [made])
        level.put(f"return {self.operand(made)};")
        self._count = count
        head = f"{self.DIALECT.qualifier} {types[made.dtype]} {routine.name}({', '.join(given)})"
        return "\n".join([head, "{", *level.lines, "}"])

    def computed(self, opcode: str, args: Sequence[Value], dtype: str) -> str:
        """The expression of an instruction on values."""
        operands = [self.operand(argument) for argument in args]
        return self.instruction(opcode, operands, [argument.dtype for argument in args], dtype)

    def instruction(
        self, opcode: str, operands: Sequence[str], dtypes: Sequence[str], dtype: str
    ) -> str:
        text, helpers = self.DIALECT.instruction(opcode, operands, dtypes, dtype)
        self.helper(*helpers)
        return text

    def combined(self, accumulator: Accumulator, state: str, value: str) -> str:
        """The expression of one step of an accumulation."""
        dtype = accumulator.dtype
        return self.instruction(accumulator.combiner, [state, value], [dtype, dtype], dtype)

    def operand(self, value: Value) -> str:
        if value.opcode == "const":
            return self.literal(value.immediate, value.dtype)
        return self.names[id(value)]

    def literal(self, value: Any, dtype: str) -> str:
        text, helpers = self.DIALECT.literal(value, dtype)
        self.helper(*helpers)
        return text

    # -- memory ------------------------------------------------------------------------------------

    def load(self, level: Level, value: Value) -> str:
        """The expression of a load. Any byte but 0 is true."""
        address: Address = value.immediate
        element = self.element(level, address.buffer, address.index, value.args[: address.count])
        if value.dtype == "bool":
            element = f"{element} != 0"
        if len(value.args) == address.count:
            return element
        mask, fill = map(self.operand, value.args[address.count :])
        return f"{mask} ? {element} : {fill}"

    def element(
        self, level: Level, buffer: Buffer, index: tuple[Extent, ...], args: tuple[Value, ...]
    ) -> str:
        """An element of a buffer, to be read or assigned."""
        self.used.add(("buffer", buffer))
        position = self.index(level, linear(buffer, index), self.argument_names(args))
        if buffer.layout != "strided":
            return f"{buffer.name}[{position}]"
        const = "" if buffer in self.stored else "const "
        address = f"({const}char*){buffer.name} + {enclosed(position)}"
        return f"*({const}{self.DIALECT.memory_type(buffer.dtype)}*)({address})"

    def argument_names(self, args: tuple[Value, ...]) -> dict[str, str]:
        return {f"_arg{k}": self.operand(value) for k, value in enumerate(args)}


_FLOOR = {
    "floor_divide": """\
{q} {i} floor_divide({i} a, {i} b)
{{
    const {i} divisor = b == 0 ? 1 : b, rest = a % divisor;
    return a / divisor - (rest != 0 && (rest < 0) != (divisor < 0) ? 1 : 0);
}}""",
    "floor_modulo": """\
{q} {i} floor_modulo({i} a, {i} b)
{{
    const {i} divisor = b == 0 ? 1 : b, rest = a % divisor;
    return rest + (rest != 0 && (rest < 0) != (divisor < 0) ? divisor : 0);
}}""",
}


def enclosed(text: str) -> str:
    """An operand of a product, a cast or whatever binds as tightly."""
    return text if re.fullmatch(r"\w+", text) else f"({text})"


def memory_groups(
    launch: Launch, workers: int, given: Mapping[Storage, Storage] | None = None
) -> list[int]:
    """A number for each operand of a launch, equal where two share memory: a result may take an
    operand's place, and an output that of the input that was `given` for it.
    """
    shared = given or {}
    storages = [shared.get(operand.storage, operand.storage) for operand in launch.operands]
    return [
        next(i for i, other in enumerate(storages) if _overlap(storage, other, workers))
        for storage in storages
    ]


def _overlap(one: Storage, other: Storage, workers: int) -> bool:
    if one is other:
        return True
    planned = ("temporary", "worker")
    if one.kind not in planned or other.kind not in planned:
        return False
    starts = one.offset, other.offset
    # An array without elements has an address all the same.
    ends = [s.offset + dim_max(storage_bytes(s, workers), 1) for s in (one, other)]
    if not all(isinstance(extent, int) for extent in (*starts, *ends)):
        return starts[0] == starts[1]
    return starts[0] < ends[1] and starts[1] < ends[0]


def remarks(launch: Launch, spell: Callable[[Any], str] = str) -> list[str]:
    """What a launch computes, and the user's lines that it comes from; `spell` writes a type."""
    if not launch.nodes:
        return [comment(launch.reason)] if launch.reason else []
    names = list(dict.fromkeys(node.op.name for node in launch.nodes))
    lines = list(dict.fromkeys(filter(None, (location(node.origin) for node in launch.nodes))))
    listed = ", ".join(names[:LISTED]) + (", ..." if len(names) > LISTED else "")
    found = [comment(f"{listed}: {spell(launch.nodes[-1].type)}")]
    if lines:
        more = ", ..." if len(lines) > LISTED else ""
        found.append(comment(f"from {', '.join(lines[:LISTED])}{more}"))
    return found


def spread(opening: str, items: Sequence[str], closing: str, depth: int = 0) -> str:
    """A list of parameters or arguments on one line, or on as many more as it needs."""
    line = f"{opening}{', '.join(items)}{closing}"
    if 4 * depth + len(line) <= WIDTH:
        return line
    indent = "    " * (depth + 1)
    lines = [opening, ""]
    for item in [*(f"{item}," for item in items[:-1]), f"{items[-1]}{closing}"]:
        if lines[-1] and len(lines[-1]) + len(item) >= WIDTH:
            lines.append("")
        lines[-1] += f" {item}" if lines[-1] else indent + item
    return "\n".join(lines)


def comment(text: str) -> str:
    """Text that stays within a comment of one line."""
    plain = "".join(c if c.isprintable() else "?" for c in text).rstrip("\\")
    return plain.replace("*/", "* /").replace("/*", "/ *")


# -- what is known of a kernel before it is written ------------------------------------------------


def _live(kernel: Kernel) -> set[int]:
    """The ids of values and accumulators that a store or a check needs, directly or not."""
    live: set[int] = set()
    outer, *regions = scopes(kernel)
    order = [s for scope in (outer, *regions) for s in walk(scope)]
    nest = kernel.nest
    if isinstance(nest, Contract):
        live.update(id(region.value) for region in (nest.left, nest.right))

    def need(*values: Value | None) -> None:
        live.update(id(value) for value in values if value is not None)

    for s in reversed(order):
        if isinstance(s, Value) and id(s) in live:
            need(*s.args)
            if isinstance(s.immediate, Accumulator):
                live.add(id(s.immediate))
        elif isinstance(s, Store):
            need(s.value, s.mask, *s.args)
        elif isinstance(s, Check):
            need(s.condition, s.index)
        elif isinstance(s, Until):
            need(s.condition)
        elif isinstance(s, Accumulate) and id(s.accumulator) in live:
            need(s.value, s.factor, s.mask)
    return live


def needed_values(routine: Routine) -> set[int]:
    """The ids of the values that the result of a routine needs."""
    needed = {id(routine.result)}
    for value in reversed(routine.body.statements):
        if id(value) in needed:
            needed.update(map(id, value.args))
    return needed


def _ranges(kernel: Kernel) -> dict[str, tuple[Any, Any]]:
    """The ranges of loop and region variables; what data decides may be anything."""
    ranges: dict[str, tuple[Any, Any]] = {}
    nest = kernel.nest
    if isinstance(nest, Contract):
        sizes = {
            "left": (nest.batch, nest.rows, nest.depth),
            "right": (nest.batch, nest.depth, nest.columns),
            "epilogue": (nest.batch, nest.rows, nest.columns),
        }
        for side, extents in sizes.items():
            for name, extent in zip(getattr(nest, side).variables, extents, strict=True):
                ranges[name] = (0, extent - 1)
    most = 0
    for scope in scopes(kernel):
        for s in walk(scope):
            if isinstance(s, For):
                ranges[s.variable] = (s.start, s.stop - 1)
            elif isinstance(s, (Store, Value)):
                most = max(most, len(s.args))
    return ranges | {f"_arg{k}": (None, None) for k in range(most)}


def _symbols_of_term(term: Any) -> set[str]:
    names: set[str] = set()
    for atom, _ in term[0]:
        names |= {atom} if isinstance(atom, str) else atom.symbols
    return names
