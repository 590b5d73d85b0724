"""How is a kernel written as C?  Plain loops, which the compiler turns into vectors.

A kernel is a static function of its buffers and extents. A vector loop that carries nothing is one
loop. One that accumulates keeps an array of partial results, as many as native code has lanes, and
adds halves onto halves at its end: so the order of summation, and every bit of the result, is that
of native code. Iterations of the parallel loop are shared out to threads under OpenMP where they
need no scratch.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from graphc.codegen.c_scalar import C
from graphc.codegen.clike import Level, StatementPrinter, spread
from graphc.codegen.lanes import choose_lanes
from graphc.codegen.loops import Buffer, Contract, Kernel, Region, identity
from graphc.codegen.scalar import Accumulate, Accumulator, Check, For, Store
from graphc.dims import Bounds, Dim, ceildiv

# Rows and columns of a tile of a product, and the length of a step along the contracted axis: two
# packed operands and the sums of float64 take 40 KiB of the stack.
TILE_ROWS, TILE_COLUMNS, TILE_DEPTH = 32, 32, 64
# Elements of a tile whose sums stay in registers.
BLOCK_ROWS, BLOCK_COLUMNS = 4, 16

RECORD = """\
static void record(graphc_status *status, int64_t code, int64_t node, int64_t index)
{
#ifdef _OPENMP
#pragma omp critical (graphc_record)
#endif
    if (status->code == 0) {
        status->code = code;
        status->node = node;
        status->index = index;
    }
}"""


@dataclass(eq=False)
class CKernel:
    """A static function without its name: parameters, body, the frame words that it takes, helpers.

    `can_fail` tells whether it may write the status record.
    """

    title: str
    parameters: tuple[str, ...]
    body: str
    words: tuple[tuple[str, Any], ...]
    helpers: dict[str, str]
    can_fail: bool
    name: str = ""
    comments: list[str] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The function, with comments that say what it computes."""
        head = spread(f"static void {self.name}(", self.parameters or ("void",), ")")
        return "\n".join([*(f"/* {line} */" for line in self.comments), head, self.body])


class CKernelPrinter(StatementPrinter):
    """Writes one kernel.

    `dims` are the user's names of extents, `vector_bytes` those of the machine whose sums are to be
    matched.
    """

    DIALECT = C
    INTEGER = "int64_t"
    MINIMUM, MAXIMUM = "minimum", "maximum"

    def __init__(
        self,
        kernel: Kernel,
        groups: Sequence[int],
        dims: Mapping[str, str],
        vector_bytes: int,
    ) -> None:
        self.dims = dims
        self.vector_bytes = vector_bytes
        super().__init__(kernel, groups)

    def extent_name(self, number: int, name: str) -> str:
        return super().extent_name(number, self.dims.get(name, name))

    # -- the function ------------------------------------------------------------------------------

    def function(self) -> CKernel:
        """The finished kernel."""
        top = self.top()
        nest = self.kernel.nest
        for statement in self.kernel.body.statements:
            if statement is nest and isinstance(nest, Contract):
                self.contract(top, nest)
            elif statement is nest:
                self.parallel_loop(top, nest)
            else:
                self.statement(top, statement)
        words = self.words()
        parameters = tuple(map(self.parameter, words))
        fails = ("status", None) in self.used
        body = "\n".join(["{", *top.lines, "}"])
        return CKernel(self.kernel.title, parameters, body, tuple(words), self.helpers, fails)

    def words(self) -> list[tuple[str, Any]]:
        """The words of the kernel's frame that its text uses."""
        order = [("buffer", buffer) for buffer in self.kernel.buffers]
        order += [word for _, word in self.words_by_name.values()]
        return [word for word in (*order, ("status", None)) if word in self.used]

    def parameter(self, word: tuple[str, Any]) -> str:
        kind, item = word
        if kind == "status":
            return "graphc_status *status"
        if kind != "buffer":
            name = next(text for text, each in self.words_by_name.values() if each == word)
            return f"int64_t {name}"
        const = "" if item in self.stored else "const "
        return f"{const}{C.memory_type(item.dtype)} *{self.restricted(item)}{item.name}"

    def restricted(self, buffer: Buffer) -> str:
        """Nothing else in the kernel reaches what a buffer writes, or nothing in it is written."""
        sharing = [b for b in self.kernel.buffers if self.group[b] == self.group[buffer]]
        return "restrict " if len(sharing) == 1 or buffer not in self.writes else ""

    # -- loops -------------------------------------------------------------------------------------

    def parallel_loop(self, top: Level, loop: For) -> None:
        if loop.start == 0 and loop.stop == 1:
            only = Level(top, top.depth, variables={loop.variable: loop.variable})
            self.scope(only, loop.body)
            declare_if_used(only, 0, loop.variable, "0")
            top.lines += only.lines
            return
        inside = top.inner({loop.variable: loop.variable})
        self.scope(inside, loop.body)
        start, stop = self.index(top, loop.start), self.index(top, loop.stop)
        self.share_out(top)
        top.close(self.counting(loop.variable, start, stop), inside)

    def share_out(self, level: Level) -> None:
        """Let OpenMP do the iterations of the next loop in any order, if none needs scratch."""
        if not any(buffer.space == "worker" for buffer in self.kernel.buffers):
            level.lines += ["#ifdef _OPENMP", "#pragma omp parallel for", "#endif"]

    def counting(self, variable: str, start: str, stop: str) -> str:
        return f"for (int64_t {variable} = {start}; {variable} < {stop}; ++{variable})"

    def loop(self, level: Level, loop: For) -> None:
        mine = [a for a in loop.accumulators if id(a) in self.live]
        if loop.role == "vector" and mine:
            self.accumulating_loop(level, loop, mine)
            return
        for a in mine:
            name = self.states[a] = self.fresh("a")
            level.put(f"{C.types[a.dtype]} {name} = {self.neutral(a)};")
        inside = level.inner({loop.variable: loop.variable}, lanes=loop.role == "vector")
        start, stop = self.index(level, loop.start), self.index(level, loop.stop)
        self.scope(inside, loop.body)
        level.close(self.counting(loop.variable, start, stop), inside)
        for a in mine:
            for value in self.results.get(a, ()):
                self.names[id(value)] = self.states[a]

    def neutral(self, a: Accumulator) -> str:
        return self.literal(identity(a.combiner, a.dtype), a.dtype)

    def accumulating_loop(self, level: Level, loop: For, mine: Sequence[Accumulator]) -> None:
        """Partial results in lanes: iteration i goes to lane i modulo their number."""
        count = choose_lanes(loop, self.vector_bytes)
        variable, lane, first = loop.variable, self.fresh("lane"), self.fresh("first")
        start, stop = self.index(level, loop.start), self.index(level, loop.stop)
        lanes = f"for (int {lane} = 0; {lane} < {count}; ++{lane})"
        for a in mine:
            name = self.fresh("a")
            self.states[a] = f"{name}[{lane}]"
            level.put(f"{C.types[a.dtype]} {name}[{count}];")
            level.put(f"{lanes} {name}[{lane}] = {self.neutral(a)};")
        block = level.inner()
        rest = f"{stop} - {first}"
        live = self.fresh("live")
        block.put(f"const int {live} = {rest} < {count} ? (int)({rest}) : {count};")
        inside = block.inner({variable: variable}, lanes=True)
        self.scope(inside, loop.body)
        declare_if_used(inside, 0, variable, f"{first} + {lane}")
        block.close(f"for (int {lane} = 0; {lane} < {live}; ++{lane})", inside)
        level.close(
            f"for (int64_t {first} = {start}; {first} < {stop}; {first} += {count})", block
        )
        for a in mine:
            self.combine_lanes(level, a, lane, count)

    def combine_lanes(self, level: Level, a: Accumulator, lane: str, count: int) -> None:
        """Halves onto halves until one lane is left."""
        name = self.states[a].partition("[")[0]
        half = self.fresh("half")
        step = self.combined(a, f"{name}[{lane}]", f"{name}[{lane} + {half}]")
        halves = level.inner()
        lanes = halves.inner()
        lanes.put(f"{name}[{lane}] = {step};")
        halves.close(f"for (int {lane} = 0; {lane} < {half}; ++{lane})", lanes)
        level.close(f"for (int {half} = {count // 2}; {half} > 0; {half} /= 2)", halves)
        result = self.fresh("v")
        level.put(f"const {C.types[a.dtype]} {result} = {name}[0];")
        for value in self.results.get(a, ()):
            self.names[id(value)] = result

    # -- what a statement does ---------------------------------------------------------------------

    def accumulate(self, level: Level, s: Accumulate) -> None:
        if id(s.accumulator) not in self.live:
            return
        state = self.states[s.accumulator]
        step = f"{state} = {self.combined(s.accumulator, state, self.operand(s.value))};"
        level.put(step if s.mask is None else f"if ({self.operand(s.mask)}) {step}")

    def store(self, level: Level, s: Store) -> None:
        element = self.element(level, s.buffer, s.index, s.args)
        step = f"{element} = {self.operand(s.value)};"
        level.put(step if s.mask is None else f"if ({self.operand(s.mask)}) {step}")

    def check(self, level: Level, s: Check) -> None:
        self.used.add(("status", None))
        self.helpers.setdefault("record", RECORD)
        condition, index = self.operand(s.condition), self.operand(s.index)
        level.put(f"if (!{condition}) record(status, {s.code}, {s.node}, {index});")

    # -- contractions ------------------------------------------------------------------------------

    def contract(self, top: Level, contract: Contract) -> None:
        """Tile by tile. Both operands are packed for a step along the contracted axis, so a region
        computes an element once for many sums; each sum is in the order of that axis, by `fma`.
        """
        row_tiles = ceildiv(contract.rows, TILE_ROWS)
        column_tiles = ceildiv(contract.columns, TILE_COLUMNS)
        tasks = contract.batch * row_tiles * column_tiles
        if tasks == 0:
            return
        type_ = C.types[contract.dtype]
        tile = Dim.symbol("_tile")
        inside = top.inner({"_tile": "tile"})
        bounds = Bounds({"_tile": (0, tasks - 1)})
        starts = {
            "row0": bounds.simplify(tile // column_tiles % row_tiles) * TILE_ROWS,
            "column0": bounds.simplify(tile % column_tiles) * TILE_COLUMNS,
        }
        for name, start in starts.items():
            inside.put(f"const int64_t {name} = {self.index(inside, start)};")
        batch = self.index(inside, bounds.simplify(tile // (row_tiles * column_tiles)))
        before = len(inside.lines)
        for region in (contract.left, contract.right, contract.epilogue):
            inside.variables[region.variables[0]] = "batch"
        for name, extent, first, most in (
            ("rows", contract.rows, "row0", TILE_ROWS),
            ("columns", contract.columns, "column0", TILE_COLUMNS),
        ):
            left = f"{self.index(top, extent)} - {first}"
            inside.put(f"const int {name} = {left} < {most} ? (int)({left}) : {most};")
        for line in (
            f"{type_} sums[{TILE_ROWS}][{TILE_COLUMNS}] = {{{{0}}}};",
            f"{type_} left[{TILE_DEPTH}][{TILE_ROWS}], right[{TILE_DEPTH}][{TILE_COLUMNS}];",
        ):
            inside.put(line)
        self.sum_up(inside, contract)
        self.finish_tile(inside, contract)
        declare_if_used(inside, before, "batch", batch)
        stop = self.index(top, tasks)
        self.share_out(top)
        top.close(self.counting("tile", "0", stop), inside)

    def sum_up(self, level: Level, contract: Contract) -> None:
        depth = self.index(level, contract.depth)
        step = level.inner()
        step.put(
            f"const int depth = {depth} - k0 < {TILE_DEPTH} ? (int)({depth} - k0) : {TILE_DEPTH};"
        )
        self.pack(step, contract.left, "left", "row0", "rows")
        self.pack(step, contract.right, "right", "column0", "columns")
        name = f"tile_product_{contract.dtype}"
        self.helper(f"fma_{contract.dtype}")
        self.helpers.setdefault(name, _tile_product(contract.dtype))
        step.put(f"{name}(rows, columns, depth, left, right, sums);")
        level.close(f"for (int64_t k0 = 0; k0 < {depth}; k0 += {TILE_DEPTH})", step)

    def pack(self, level: Level, region: Region, side: str, first: str, count: str) -> None:
        """The elements of an operand that a step needs; beyond its edges 0, up to a whole block."""
        # The left operand binds (batch, row, k), the right one (batch, k, column).
        outer, inner = region.variables[1:] if side == "left" else region.variables[:0:-1]
        lines = level.inner({inner: inner})
        elements = lines.inner({outer: outer}, lanes=True)
        assert region.value is not None
        self.scope(elements, region.body, [region.value])
        elements.put(f"{side}[k][n] = {self.operand(region.value)};")
        declare_if_used(elements, 0, outer, f"{first} + n")
        lines.close(f"for (int n = 0; n < {count}; ++n)", elements)
        block = BLOCK_ROWS if side == "left" else BLOCK_COLUMNS
        lines.put(f"for (int n = {count}; n % {block} != 0; ++n) {side}[k][n] = 0;")
        declare_if_used(lines, 0, inner, "k0 + k")
        level.close("for (int k = 0; k < depth; ++k)", lines)

    def finish_tile(self, level: Level, contract: Contract) -> None:
        """The epilogue, for the elements of a finished tile."""
        _, row, column = contract.epilogue.variables
        rows = level.inner({row: row})
        columns = rows.inner({column: column}, lanes=True)
        assert contract.product is not None
        name = self.names[id(contract.product)] = self.fresh("v")
        columns.put(f"const {C.types[contract.dtype]} {name} = sums[m][n];")
        self.scope(columns, contract.epilogue.body)
        declare_if_used(columns, 0, column, "column0 + n")
        rows.close("for (int n = 0; n < columns; ++n)", columns)
        declare_if_used(rows, 0, row, "row0 + m")
        level.close("for (int m = 0; m < rows; ++m)", rows)


def declare_if_used(level: Level, position: int, name: str, text: str) -> None:
    """Put an integer in front of the lines from `position` on, if they name it."""
    word = re.compile(rf"\b{name}\b")
    if any(word.search(line) for line in level.lines[position:]):
        line = "    " * level.depth + f"const int64_t {name} = {text};"
        level.lines.insert(position, line)


def _tile_product(dtype: str) -> str:
    """A function: adds the product of two packed operands to the sums of a tile."""
    return f"""\
static void tile_product_{dtype}(
    int rows, int columns, int depth, {C.types[dtype]} left[][{TILE_ROWS}],
    {C.types[dtype]} right[][{TILE_COLUMNS}], {C.types[dtype]} sums[][{TILE_COLUMNS}])
{{
    for (int row = 0; row < rows; row += {BLOCK_ROWS}) {{
        for (int column = 0; column < columns; column += {BLOCK_COLUMNS}) {{
            {C.types[dtype]} block[{BLOCK_ROWS}][{BLOCK_COLUMNS}];
            for (int m = 0; m < {BLOCK_ROWS}; ++m)
                for (int n = 0; n < {BLOCK_COLUMNS}; ++n) block[m][n] = sums[row + m][column + n];
            for (int k = 0; k < depth; ++k)
                for (int m = 0; m < {BLOCK_ROWS}; ++m)
                    for (int n = 0; n < {BLOCK_COLUMNS}; ++n)
                        block[m][n] = fma_{dtype}(
                            left[k][row + m], right[k][column + n], block[m][n]);
            for (int m = 0; m < {BLOCK_ROWS}; ++m)
                for (int n = 0; n < {BLOCK_COLUMNS}; ++n) sums[row + m][column + n] = block[m][n];
        }}
    }}
}}"""
