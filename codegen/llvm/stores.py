"""How is memory written?  Wide where lanes lie side by side, scattered elsewhere, under masks.

Stores of whole vectors to large arrays go past the caches, see `stream`; those of a loop whose
lanes have a row each are written together, see `rows`.
"""

from __future__ import annotations

from graphc.codegen.llvm.indices import Indices
from graphc.codegen.llvm.level import Lanes, Level
from graphc.codegen.llvm.rows import Rows, RowWriter, rows_of
from graphc.codegen.llvm.scalar import llvm_type, memory_type
from graphc.codegen.llvm.stream import alignment
from graphc.codegen.llvm.values import vector_suffix
from graphc.codegen.scalar import Scope, Store

# Dtypes that a wider integer may be narrowed to.
_NARROW = frozenset(("bool", "int8", "int16", "int32", "uint8", "uint16", "uint32"))


class Stores:
    """The stores of one function."""

    def __init__(self, indices: Indices) -> None:
        self.indices = indices
        self.values = indices.values
        self.streaming: set[int] = set()  # stores that go past the caches, in this loop
        self.rows: dict[tuple[Scope, int], Rows] = {}  # that loops write, by bodies and lanes
        self.row_writer = RowWriter(indices)

    def store(self, level: Level, s: Store) -> None:
        lanes = level.lanes
        rows = self._rows(level)
        if rows is not None and id(s) in rows.waiting:
            for block in rows.due.get(id(s), ()):
                past = all(id(store) in self.streaming for store in block.stores)
                self.row_writer.write(level, block, past and block.whole)
            return
        count = level.lane_count
        dtype, size = s.value.dtype, s.buffer.item_bytes
        how, at = self.indices.place(level, s.buffer, s.index, s.args)
        value = self.values.operand(level, s.value)
        value = self.values.to_memory(level, value, dtype, count)
        mask = lanes.mask_of(s.buffer) if lanes else None
        if s.mask is not None:
            mask = self.values.both(level, mask, self.values.operand(level, s.mask))
        typed = memory_type(dtype, count)
        if count == 1:
            self._scalar(level, typed, value, at, size, mask)
        elif how == "wide" and lanes and lanes.counts(mask, size):
            self._in_parts(level, lanes.rest, dtype, count, value, at, size)
        elif how == "wide" and mask is not None and lanes and lanes.single and dtype in _NARROW:
            live = None if s.mask is None else mask
            self._narrow(level, lanes, dtype, value, at, size, live)
        elif how == "wide" and mask is None and id(s) in self.streaming:
            aligned = alignment(s, count)
            level.put(f"store {typed} {value}, ptr {at}, align {aligned}, !nontemporal !3")
        elif how == "wide" and mask is None:
            level.put(f"store {typed} {value}, ptr {at}, align {size}")
        elif how == "wide":
            self._masked(level, dtype, count, value, at, size, str(mask))
        else:
            pointers = self.values.broadcast(level, at, "ptr", count) if how == "uniform" else at
            flags = llvm_type("bool", count)
            function = f"llvm.masked.scatter.{vector_suffix(dtype, count)}.v{count}p0"
            self.values.declarations.add(
                f"declare void @{function}({typed}, <{count} x ptr>, i32, {flags})"
            )
            live = mask or "splat (i1 true)"
            level.put(
                f"call void @{function}({typed} {value}, <{count} x ptr> {pointers}, i32 {size}, "
                f"{flags} {live})"
            )

    def _rows(self, level: Level) -> Rows | None:
        """The rows that the innermost loop writes, if its lanes are all live."""
        lanes = level.lanes
        if lanes is None or lanes.mask is not None or not level.introduces_lanes:
            return None
        assert level.scope is not None
        key = (level.scope, lanes.count)
        if key not in self.rows:
            bytes_ = self.values.machine.vector_bytes
            self.rows[key] = rows_of(level.scope, lanes.variable, lanes.count, bytes_)
        return self.rows[key]

    def wide(
        self, level: Level, value: str, at: str, dtype: str, lanes: Lanes, size: int
    ) -> None:
        """Consecutive lanes to consecutive elements; lanes that are off write nothing."""
        count = lanes.count
        if lanes.mask is None:
            level.put(f"store {memory_type(dtype, count)} {value}, ptr {at}, align {size}")
        else:
            self._masked(level, dtype, count, value, at, size, lanes.mask)

    def _in_parts(
        self, level: Level, rest: str, dtype: str, count: int, value: str, at: str, size: int
    ) -> None:
        """The first `rest` of the lanes, at least one: all of them, or powers of two, the largest
        first. A number that is known takes no branches.
        """
        if rest.isdigit():
            self._known_parts(level, int(rest), dtype, count, value, at, size)
            return
        tag, full = self.values.tag(), self.values.fresh("c")
        level.put(f"{full} = icmp sge i64 {rest}, {count}")
        level.put(f"br i1 {full}, label %whole{tag}, label %parts{tag}")
        level.label(f"whole{tag}")
        level.put(f"store {memory_type(dtype, count)} {value}, ptr {at}, align {size}")
        level.put(f"br label %stored{tag}")
        level.label(f"parts{tag}")
        while count > 1:
            value, at = self._half(level, rest, dtype, count, value, at, size)
            count //= 2
        level.put(f"br label %stored{tag}")
        level.label(f"stored{tag}")

    def _known_parts(
        self, level: Level, rest: int, dtype: str, count: int, value: str, at: str, size: int
    ) -> None:
        """The first `rest` of the lanes, fewer than all."""
        first = 0
        while rest > first:
            part = 1 << ((rest - first).bit_length() - 1)
            picked = self._lanes(level, dtype, count, value, range(first, first + part))
            to = self.values.fresh()
            level.put(f"{to} = getelementptr i8, ptr {at}, i64 {first * size}")
            level.put(f"store {memory_type(dtype, part)} {picked}, ptr {to}, align {size}")
            first += part

    def _lanes(self, level: Level, dtype: str, count: int, value: str, chosen: range) -> str:
        """Neighbouring lanes of a value in memory's type; a scalar if it is one."""
        name, whole = self.values.fresh(), memory_type(dtype, count)
        if len(chosen) == 1:
            level.put(f"{name} = extractelement {whole} {value}, i64 {chosen[0]}")
            return name
        lanes = ", ".join(f"i32 {k}" for k in chosen)
        level.put(
            f"{name} = shufflevector {whole} {value}, {whole} poison, "
            f"<{len(chosen)} x i32> <{lanes}>"
        )
        return name

    def _half(
        self, level: Level, rest: str, dtype: str, count: int, value: str, at: str, size: int
    ) -> tuple[str, str]:
        """Store the lower half of the lanes if `rest` holds that power of two; the lanes that are
        left then, and where they go.
        """
        half, before, tag = count // 2, level.block, self.values.tag()
        typed = memory_type(dtype, half)
        low = self._lanes(level, dtype, count, value, range(half))
        high = self._lanes(level, dtype, count, value, range(half, count))
        after, to, bit, wanted, left = (self.values.fresh() for _ in range(5))
        level.put(f"{bit} = and i64 {rest}, {half}")
        level.put(f"{wanted} = icmp ne i64 {bit}, 0")
        level.put(f"br i1 {wanted}, label %half{tag}, label %left{tag}")
        level.label(f"half{tag}")
        level.put(f"store {typed} {low}, ptr {at}, align {size}")
        level.put(f"{after} = getelementptr i8, ptr {at}, i64 {half * size}")
        level.put(f"br label %left{tag}")
        level.label(f"left{tag}")
        level.put(f"{left} = phi {typed} [{high}, %half{tag}], [{low}, %{before}]")
        level.put(f"{to} = phi ptr [{after}, %half{tag}], [{at}, %{before}]")
        return left, to

    def _masked(
        self, level: Level, dtype: str, count: int, value: str, at: str, size: int, mask: str
    ) -> None:
        typed, flags = memory_type(dtype, count), llvm_type("bool", count)
        function = f"llvm.masked.store.{vector_suffix(dtype, count)}.p0"
        self.values.declarations.add(f"declare void @{function}({typed}, ptr, i32, {flags})")
        level.put(
            f"call void @{function}({typed} {value}, ptr align {size} {at}, i32 {size}, "
            f"{flags} {mask})"
        )

    def _narrow(
        self,
        level: Level,
        lanes: Lanes,
        dtype: str,
        value: str,
        at: str,
        size: int,
        own: str | None,
    ) -> None:
        """A store under a mask, that of one lane by itself. LLVM 20 turns a masked store of one
        element that was narrowed into one of the whole element, over what follows in memory.
        """
        count = lanes.count
        first = self.values.fresh()
        level.put(f"{first} = extractelement {memory_type(dtype, count)} {value}, i64 0")
        flag = None
        if own is not None:
            flag = self.values.fresh("c")
            level.put(f"{flag} = extractelement {llvm_type('bool', count)} {own}, i64 0")
        if lanes.single == "true":
            self._scalar(level, memory_type(dtype, 1), first, at, size, flag)
            return
        tag = self.values.tag()
        level.put(f"br i1 {lanes.single}, label %one{tag}, label %several{tag}")
        level.label(f"one{tag}")
        self._scalar(level, memory_type(dtype, 1), first, at, size, flag)
        level.put(f"br label %stored{tag}")
        level.label(f"several{tag}")
        self._masked(level, dtype, count, value, at, size, str(own or lanes.mask))
        level.put(f"br label %stored{tag}")
        level.label(f"stored{tag}")

    def _scalar(
        self, level: Level, typed: str, value: str, at: str, size: int, mask: str | None
    ) -> None:
        if mask is None:
            level.put(f"store {typed} {value}, ptr {at}, align {size}")
            return
        tag = self.values.tag()
        level.put(f"br i1 {mask}, label %write{tag}, label %skip{tag}")
        level.label(f"write{tag}")
        level.put(f"store {typed} {value}, ptr {at}, align {size}")
        level.put(f"br label %skip{tag}")
        level.label(f"skip{tag}")
