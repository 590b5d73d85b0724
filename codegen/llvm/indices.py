"""Where is an element?  Index expressions as values, in every lane, and addresses.

What an extent or an address is made of decides where it is computed: at the outermost level at
which all of that is known. Lanes reach memory side by side (`wide`), all at one place (`uniform`),
or each at its own (`lanes`).
"""

from __future__ import annotations

from graphc.codegen.llvm.arithmetic import LONG_SUM, Arithmetic
from graphc.codegen.llvm.level import Lanes, Level
from graphc.codegen.llvm.values import Values
from graphc.codegen.loops import Buffer, linear, stride_name
from graphc.codegen.scalar import Value
from graphc.dims import Dim, Extent, affine, substitute, symbols_of

# What the names in an index stand for, as operands, and of how many lanes each is.
Names = dict[str, tuple[str, int]]


def unit_bytes(buffer: Buffer) -> int:
    """In what positions in a buffer count: elements, or bytes if it has strides of its own."""
    return 1 if buffer.layout == "strided" else buffer.item_bytes


class Indices:
    """The index expressions of one function, and the addresses of its buffers."""

    def __init__(self, values: Values) -> None:
        self.values = values
        self.pointers: dict[Buffer, str] = {}
        # Strided buffers whose elements are known to lie side by side along their last axis.
        self.side_by_side: frozenset[Buffer] = frozenset()

    def position(self, buffer: Buffer, index: tuple[Extent, ...]) -> Extent:
        """Where an element is, in units of the buffer (see `unit_bytes`)."""
        position = linear(buffer, index)
        if buffer in self.side_by_side:
            last = stride_name(buffer, len(buffer.shape) - 1)
            return substitute(position, {last: buffer.item_bytes})
        return position

    def step(self, buffer: Buffer) -> int | None:
        """From an element to the next one along the last axis, in those units; None if unknown."""
        if buffer.layout == "contiguous":
            return 1
        return buffer.item_bytes if buffer in self.side_by_side else None

    def value(self, level: Level, value: Value) -> str:
        """The value of an index expression, in every lane."""
        lanes = level.lanes
        values = self.argument_names(level, value.args)
        if lanes is None:
            return self.dim(level, value.immediate, values)
        return self.vector_dim(level, value.immediate, values)

    def argument_names(self, level: Level, args: tuple[Value, ...]) -> Names:
        """The names that an index gives to values, with the operand and its number of lanes."""
        found = {}
        for k, value in enumerate(args):
            home = next((each for each in level.chain() if id(value) in each.names), None)
            lanes = 1 if home is None else home.lane_count
            found[f"_arg{k}"] = (self.values.operand(level, value, lanes), lanes)
        return found

    def home(self, level: Level, extent: Extent, values: Names) -> Level:
        """The outermost level at which every name of an extent is known."""
        names = symbols_of(extent)
        if names & values.keys():
            return level
        for each in level.chain():
            if names & each.symbols.keys() or each.parent is None or each.scope is None:
                return each
        return level

    def dim(
        self, level: Level, extent: Extent, values: Names | None = None
    ) -> str:
        """An extent as an i64 (of lane 0 inside a vector loop), computed at the outermost level
        possible.
        """
        if isinstance(extent, int):
            return str(extent)
        values = values or {}
        home = self.home(level, extent, values)
        if not symbols_of(extent) & values.keys() and extent in home.dims:
            return home.dims[extent]

        def name_of(name: str) -> str:
            if name in values:
                return values[name][0]
            return next(each.symbols[name] for each in level.chain() if name in each.symbols)

        emitter = Arithmetic(home, self.values.fresh, "i64", str, name_of)
        if symbols_of(extent) & values.keys():
            return emitter.extent(extent)
        if len(extent.terms) < LONG_SUM:
            result = emitter.extent(extent)
        else:
            home.latest = emitter.following(extent, home.latest)
            result = home.latest[1]
        home.dims[extent] = result
        return result

    def vector_dim(self, level: Level, extent: Extent, values: Names) -> str:
        """An extent in every lane."""
        lanes = level.lanes
        assert lanes is not None
        count = lanes.count
        vector = f"<{count} x i64>"
        if isinstance(extent, int):
            return f"splat (i64 {extent})"
        if lanes.variable not in symbols_of(extent) and not symbols_of(extent) & values.keys():
            name = self.dim(level, extent)
            return self.values.splat(self.home(level, extent, {}), name, "int64", count)
        split = None if symbols_of(extent) & values.keys() else affine(extent, lanes.variable)
        if split is not None and isinstance(split[0], int):
            return self._lanes_from(level, split[0], split[1])

        def name_of(name: str) -> str:
            if name == lanes.variable:
                return self._lane_positions(level, lanes)
            if name in values:
                held, had = values[name]
                return held if had == count else self.values.broadcast(level, held, "i64", count)
            home, single = next(
                (each, each.symbols[name]) for each in level.chain() if name in each.symbols
            )
            return self.values.splat(home, single, "int64", count)

        def literal(number: int) -> str:
            return f"splat (i64 {number})"

        return Arithmetic(level, self.values.fresh, vector, literal, name_of).extent(extent)

    def _lanes_from(self, level: Level, slope: int, start: Extent) -> str:
        """`slope` times the loop variable, plus what is the same in every lane."""
        lanes = level.lanes
        assert lanes is not None
        vector = f"<{lanes.count} x i64>"
        result = self._lane_positions(level, lanes)
        if slope != 1:
            scaled = self.values.fresh()
            level.put(f"{scaled} = mul {vector} {result}, splat (i64 {slope})")
            result = scaled
        if start == 0:
            return result
        offset, moved = self.vector_dim(level, start, {}), self.values.fresh()
        level.put(f"{moved} = add {vector} {result}, {offset}")
        return moved

    def _lane_positions(self, level: Level, lanes: Lanes) -> str:
        """The loop variable in every lane."""
        home = next(each for each in level.chain() if each.introduces_lanes)
        key = ("positions",)
        if key not in home.dims:
            first = self.values.broadcast(home, lanes.position, "i64", lanes.count)
            numbers = ", ".join(f"i64 {k}" for k in range(lanes.count))
            result = self.values.fresh()
            home.put(f"{result} = add <{lanes.count} x i64> {first}, <{numbers}>")
            home.dims[key] = result
        return home.dims[key]

    def place(
        self, level: Level, buffer: Buffer, index: tuple[Extent, ...], args: tuple[Value, ...]
    ) -> tuple[str, str]:
        """How lanes reach memory: ("wide" | "uniform", pointer) or ("lanes", vector of pointers).
        """
        position = self.position(buffer, index)
        unit = unit_bytes(buffer)
        lanes = level.lanes
        values = self.argument_names(level, args)
        varying = {name for name, (_, count) in values.items() if count > 1}
        if lanes is None:
            return "uniform", self.pointer(level, buffer, position, unit, values)
        if not symbols_of(position) & varying:
            split = affine(position, lanes.variable)
            if split is not None:
                slope, _ = split
                if slope == 0:
                    return "uniform", self.pointer(level, buffer, position, unit, values)
                if slope == self.step(buffer):
                    return "wide", self.pointer(level, buffer, position, unit, values)
        pointers, typed = self.values.fresh("p"), f"<{lanes.count} x i64>"
        moving = symbols_of(position) & (varying | {lanes.variable})
        split = affine(position, next(iter(moving))) if len(moving) == 1 else None
        if split is not None and split[0] == 1 and not symbols_of(split[1]) & moving:
            # what is the same in all lanes is added once, and what differs is scaled on the way
            (name,) = moving
            base = self.pointer(level, buffer, split[1], unit, values)
            offsets = self.vector_dim(level, Dim.symbol(name), values)
            level.put(f"{pointers} = getelementptr i{8 * unit}, ptr {base}, {typed} {offsets}")
            return "lanes", pointers
        offsets = self.vector_dim(level, position, values)
        if unit > 1:
            scaled = self.values.fresh()
            level.put(f"{scaled} = mul {typed} {offsets}, splat (i64 {unit})")
            offsets = scaled
        level.put(f"{pointers} = getelementptr i8, ptr {self.pointers[buffer]}, {typed} {offsets}")
        return "lanes", pointers

    def pointer(
        self,
        level: Level,
        buffer: Buffer,
        position: Extent,
        unit: int,
        values: Names,
    ) -> str:
        """The address of one element. What does not vary in the innermost loop is added in front of
        it.
        """
        inner = {name for name in symbols_of(position) if name in level.symbols or name in values}
        moving: Extent = position
        base = self.pointers[buffer]
        for name in sorted(inner):
            split = affine(position, name) if name in level.symbols else None
            if split is not None and len(inner) == 1:
                slope, rest = split
                moving = slope * Dim.symbol(name)
                base = self.advance(self.home(level, rest, {}), base, rest, unit, {})
        return self.advance(level, base, moving, unit, values)

    def start(self, level: Level, buffer: Buffer, position: Extent) -> str:
        """The address of an element, by its position in units of the buffer, made where it is used.
        """
        offset = self.dim(level, position * unit_bytes(buffer))
        base = self.values.fresh("p")
        level.put(f"{base} = getelementptr i8, ptr {self.pointers[buffer]}, i64 {offset}")
        return base

    def advance(
        self,
        level: Level,
        base: str,
        position: Extent,
        unit: int,
        values: Names,
    ) -> str:
        """An address so many units further on."""
        if position == 0:
            return base
        key = ("pointer", base, position, unit)
        home = self.home(level, position, values)
        if not values and key in home.dims:
            return home.dims[key]
        offset = self.dim(level, position, values)
        result = self.values.fresh("p")
        element = {1: "i8", 2: "i16", 4: "i32", 8: "i64"}[unit]
        home.put(f"{result} = getelementptr {element}, ptr {base}, i64 {offset}")
        if not values:
            home.dims[key] = result
        return result
