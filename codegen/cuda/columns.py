"""How is a reduction of columns written as CUDA C++?  Strips of rows, side by side in a block.

Lanes along a row are neighbours in memory, and each adds up a column: with a column for each thread
most of a GPU would be idle where columns are long and few. So a block takes 8 to 128 columns next
to each other, which fill sectors of 32 bytes, and its threads take the rows in turns, a strip of
threads for each row. What the strips of a column have found is combined in a fixed order by
shuffles and through shared memory, and the first strip stores.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from graphc.codegen.clike import Level
from graphc.codegen.cuda.kernel import KernelPrinter
from graphc.codegen.cuda.lanes import WARP, Lanes, longest_range
from graphc.codegen.cuda.scalar import CUDA
from graphc.codegen.loops import Kernel
from graphc.codegen.scalar import (
    Accumulator,
    Check,
    For,
    Scope,
    Store,
    Until,
    Value,
    item_bytes,
    walk,
)
from graphc.dims import symbols_of

# Threads of a block, and of one whose strips go round often.
BLOCK, LONG_BLOCK, LONG_ROUNDS = 256, 512, 8
# Threads of a strip: of so many columns, those that are fewer included.
WIDTHS = (8, 16, 32, 64, 128)


class ColumnPrinter(KernelPrinter):
    """Writes a loop nest whose lanes are few and reduce what is long."""

    within_strip = False  # whether what is written is done by the strip that has the row
    ragged: str | None = None  # the condition under which a column is one of the block's

    def __init__(
        self,
        kernel: Kernel,
        groups: Sequence[int],
        alignments: Sequence[int] = (),
        block: int | None = None,
    ) -> None:
        self.columns_loop = lanes_of(kernel)
        self.strip_loops = {id(loop): loop for loop in strip_loops(self.columns_loop)}
        super().__init__(kernel, groups, alignments, block)

    def plan_lanes(self) -> Lanes:
        length = longest_range((self.columns_loop.start, self.columns_loop.stop), self.bounds)
        self.columns = next(size for size in WIDTHS if size >= (length or 1))
        self.partials_of_warp = min(self.columns, WARP)
        block = self.given_block or self._block()
        return Lanes(block=block, threads=block)

    def _block(self) -> int:
        rows = [loop.stop - loop.start for loop in self.strip_loops.values()]
        strips = BLOCK // self.columns
        long = all(not isinstance(count, int) or count >= LONG_ROUNDS * strips for count in rows)
        return LONG_BLOCK if long else BLOCK

    def reduces_in_lanes(self, loop: For) -> bool:
        return id(loop) in self.strip_loops

    def vector_loop(self, level: Level, loop: For) -> None:
        """The columns of the block: those past the end do what the last one does, and store
        nothing.
        """
        columns = self.columns
        whole = isinstance(loop.stop - loop.start, int) and loop.stop - loop.start == columns
        start, stop = self.index(level, loop.start), self.index(level, loop.stop)
        level.put(
            f"const int column = threadIdx.x % {columns}, strip = threadIdx.x / {columns};"
        )
        first = "column" if start == "0" else f"{start} + column"
        text = first if whole else f"min({first}, {stop} - 1)"
        level.put(f"const {self.INTEGER} {loop.variable} = {text};")
        self.ragged = None if whole else f"{first} < {stop}"
        inside = level.inner({loop.variable: loop.variable}, lanes=True)
        inside.depth = level.depth
        self.scope(inside, loop.body)
        level.lines.extend(inside.lines)

    def serial_head(self, loop: For, start: str, stop: str) -> str:
        if id(loop) not in self.strip_loops:
            return super().serial_head(loop, start, stop)
        variable, strips = loop.variable, self.block // self.columns
        first = "strip" if start == "0" else f"{start} + strip"
        return f"{self.INTEGER} {variable} = {first}; {variable} < {stop}; {variable} += {strips}"

    def scope(self, level: Level, scope: Scope, results: Iterable[Value] = ()) -> None:
        before = self.within_strip
        bodies = (loop.body for loop in self.strip_loops.values())
        self.within_strip = before or any(scope is body for body in bodies)
        super().scope(level, scope, results)
        self.within_strip = before

    def store_guards(self, level: Level) -> list[str]:
        if not level.lanes:
            return super().store_guards(level)
        first = [] if self.within_strip else ["strip == 0"]
        return first if self.ragged is None else [*first, self.ragged]

    def reduced(self, level: Level, accumulator: Accumulator) -> str:
        """What the strips of a column combine to, in every thread of the column."""
        dtype, columns = accumulator.dtype, self.columns
        self.shared[dtype] = self.block // WARP * self.partials_of_warp * item_bytes(dtype)
        name = f"columns_{accumulator.combiner}_{dtype}"
        if name not in self.helpers:
            text = self.instruction(
                accumulator.combiner, ["value", "other"], [dtype, dtype], dtype
            )
            wide = self.is_wide(dtype)
            self.helpers[name] = _COLUMN_REDUCTION.format(
                name=name,
                type=CUDA.types[dtype],
                combined=text,
                value="value" if wide else "(int)value",
                back="" if wide else f"({CUDA.types[dtype]})",
            )
        result, state = self.fresh(f"{accumulator.combiner}_"), self.states[accumulator]
        call = f"{name}<{columns}>({state}, partials_{dtype})"
        level.put(f"const {CUDA.types[dtype]} {result} = {call};")
        return result


# Strips of one warp onto each other, then those of the block in order.
_COLUMN_REDUCTION = """\
template <int Columns> __device__ inline {type} {name}({type} value, {type}* partials)
{{
    #pragma unroll
    for (int lanes = 16; lanes >= Columns; lanes /= 2) {{
        const {type} other = {back}__shfl_xor_sync(0xffffffffu, {value}, lanes);
        value = {combined};
    }}
    constexpr int threads = Columns < 32 ? 32 : Columns;  // leave one result of a column
    const int column = threadIdx.x % Columns;
    if (threadIdx.x % threads < Columns)
        partials[threadIdx.x / threads * Columns + column] = value;
    __syncthreads();
    value = partials[column];
    for (unsigned strip = 1; strip < blockDim.x / threads; ++strip) {{
        const {type} other = partials[strip * Columns + column];
        value = {combined};
    }}
    __syncthreads();
    return value;
}}"""


def lanes_of(kernel: Kernel) -> For:
    """The loop of lanes of a kernel that is nothing else."""
    assert isinstance(kernel.nest, For)
    (loop,) = (s for s in kernel.nest.body.statements if isinstance(s, For))
    return loop


def strip_loops(lanes: For) -> list[For]:
    """The innermost loops in order within a loop of lanes: strips share their rounds."""
    loops = [s for s in walk(lanes.body) if isinstance(s, For)]
    return [s for s in loops if not any(isinstance(inner, For) for inner in walk(s.body))]


def reduces_columns(printer: KernelPrinter) -> bool:
    """Whether strips of threads may share the rows of a kernel's few columns: it does nothing else,
    reads nothing that it writes, and all columns have the same rows.
    """
    kernel, live, group = printer.kernel, printer.live, printer.group
    nest = kernel.nest
    if not isinstance(nest, For):
        return False
    loops = [s for s in nest.body.statements if isinstance(s, For)]
    others = [*kernel.body.statements, *nest.body.statements]
    if len(loops) != 1 or any(isinstance(s, (Store, Check)) for s in others):
        return False
    if any(isinstance(s, For) and s is not nest for s in kernel.body.statements):
        return False
    (lanes,) = loops
    if lanes.role != "vector" or lanes.accumulators:
        return False
    longest = longest_range((lanes.start, lanes.stop), printer.bounds)
    if longest is None or not 0 < longest <= WIDTHS[-1]:
        return False
    inner = [s for s in walk(lanes.body) if isinstance(s, For)]
    if not any(loop.accumulators for loop in inner):
        return False
    if any(_depends(loop, lanes.variable) for loop in inner):
        return False
    if any(isinstance(s, Until) for s in walk(lanes.body)):
        return False
    written = {group[s.buffer] for s in walk(kernel.body) if isinstance(s, Store)}
    read = {group[load.immediate.buffer] for load in _loads(kernel.body, live)}
    worker = any(buffer.space == "worker" for buffer in kernel.buffers)
    return not worker and not written & read


def _depends(loop: For, variable: str) -> bool:
    return any(variable in symbols_of(extent) for extent in (loop.start, loop.stop))


def _loads(scope: Scope, live: set[int]) -> Iterator[Value]:
    for s in walk(scope):
        if isinstance(s, Value) and s.opcode == "load" and id(s) in live:
            yield s


__all__ = ["ColumnPrinter", "reduces_columns"]
