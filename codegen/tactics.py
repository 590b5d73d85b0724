"""What are kernels of a target good at?  The numbers by which nodes are grouped and loops chosen.

The lowering is one: the same groups of nodes are possible for every target, the same statements
say what a kernel does. What pays differs. A CPU core walks down a row by itself and wants few tasks
that are large; on a GPU a block of threads does, some hundred tasks at least should be there, a row
stays in registers, and adding up in memory what could be in a register is dear.
"""

from __future__ import annotations

import platform
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from graphc.dims import Extent, product
from graphc.types import Shape

# Lanes that work on the columns of one task, where they share them.
LANES_OF_TASK = 256


@dataclass(frozen=True)
class Tactics:
    """Numbers of elements, unless said.

    A reduction to at most `few_results`, of more than `split_elements`, is split into parts of
    about `part_elements`, but not one over the last axis to at least `whole_results` of at most
    `whole_elements` each. One of columns, to at most `split_columns` of more than `split_rows`
    each, is split as well. Columns are added up in `strips` of memory, row by row: in parts if they
    are of `long_column` elements, or of `parted_column` where what is reduced within the rows lies
    in pieces of at most `whole_piece`, of more than `streamed_elements`; else whole if there are
    `strip_rows` of them, of more than `strip_elements`. A strip is at most `strip_width` wide, and
    at least `narrow_strip`; shorter rows count as one of about `wide_row`. Sums have their terms
    added up by `summed_in_lanes` in vector loops. What is carried from row to row is so in at least
    `least_parts` parts of at most `rows_of_part` rows.

    One kernel has at most `most_work` of element-wise work, in additions: compile time grows faster
    than its text. A target with few registers and a cache may be given long kernels in `segments`
    (see there), of floating work up to `work_in_segments`; those of arithmetic alone may be long if
    its printer writes them `straight`, for so many vector registers (0: it does not). With
    `tables`, mathematical functions of float32 look numbers up where that saves arithmetic, which
    is a matter of the machine. `fast` and `library` are no matter of the target, but of the
    request: the cheaper mathematical functions (`codegen.vecmath.fast`), and the library to which
    decompositions are left ("lapack", or "" for none).
    """

    few_results: int = 64
    split_elements: int = 65536
    part_elements: int = 8192
    streams_of_part: int = 1  # a part is read so at once, if memory is what it waits for
    sums_of_part: int = 4  # of all streams: so many are kept in registers
    whole_results: int | None = None
    whole_elements: int = 0
    split_columns: int = 0
    split_rows: int = 0
    shared_columns: int = 0  # so many columns are not split: lanes share the rows of each
    strips: bool = True
    long_column: int = 1024
    parted_column: int = 32
    whole_piece: int = 2048
    streamed_elements: int = 1 << 16
    strip_elements: int = 1 << 18
    strip_rows: int = 16
    strip_width: int = 4096
    narrow_strip: int = 256
    wide_row: int = 1024
    summed_in_lanes: int = 4096
    least_parts: int = 16
    rows_of_part: int = 128
    turned_elements: int = 1 << 16  # of arrays that are read in tiles across their rows, at least
    turned_pieces: int = 1 << 16  # the same for those that are put together from pieces
    turned_rows: int = 1024  # of a tile that is read across the rows of memory: a run of each
    turned_bytes: int = 512  # of each of its rows, where they are written
    one_lane_axis: bool = False  # lanes run over all reduced axes, not only over the last
    parts_of_row: int = 16  # long ones that come from several arrays, each a loop
    boxes_of_rows: bool = True  # rows that come from several arrays have a kernel for each
    weaves_turns: bool = True  # lanes go over short turns of elements, each written out
    blocks_of_rows: bool = True  # short rows are worked on by the block, so that lanes are rows
    combines_in_lanes: bool = False  # lanes run over the parts of a split reduction
    rows_before_epilogues: bool = False  # work that a product and rows could take goes to the rows
    stores_windowed: bool = True  # arrays into which a product reads windows: padded, or computed
    reduced_columns: int = 32  # rows of products so long are reduced in registers, a lane for each
    made_apart: int = 1 << 22  # operands of products, stored however little is done for them
    inlined_cost: int = 0  # values of kernels' results that cost no more are computed where needed
    remade_cost: int = 0  # values are made anew, rather than stored, if that costs no more
    handed_columns: tuple[int, int] = (1, 0)  # rows of products so long may stay in registers
    few_delaying: int = 0  # so few results do not make a kernel wait for another beside it
    joins_outputs: bool = False  # parts of an output are written where they belong
    rows_take_besides: bool = False  # kernels that reduce take more that reads what they read
    sums_take_outputs: bool = True  # sums in parts write what else is made of the same elements
    remakes_masks: bool = False  # what relu gives is asked for its sign where that is wanted
    flat_columns: bool = False  # lanes run over all that a reduction leaves, not only the last axis
    narrow_rows: int = 0  # results of at most so many elements are lanes too
    short_rows: int = 0  # rows of at most so many elements are reduced each in a lane, written out
    masks_updates: bool = False  # those that fail are not written, rather than anywhere
    branches: int = 1  # launches that may run side by side: their temporaries are kept apart
    most_work: int = 2_000
    segments: bool = False
    straight: int = 0
    work_in_segments: int = 25_000
    kept_bytes: int = 0  # what a cache keeps while a loop goes on; 0: not known, loops stay whole
    own_cache_bytes: int = 0  # of a core alone; chains run through it in blocks; 0: they do not
    least_blocks: int = 16  # of fewer, many workers would have nothing to do
    stripe_rows: int = 0  # of the fewest that a worker has to itself in a loop; 0: loops stay whole
    shared_cache_bytes: int = 0  # of the last cache, of all cores
    least_block_work: int = 1 << 17  # multiplications of its first product; a call costs 50 ns
    panel_bytes: int = 0  # of a row of a panel that products read; 0: they read none
    tables: bool = False
    fast: bool = False
    library: str = ""

    @property
    def most_floating(self) -> int:
        """The floating work of one kernel."""
        return self.work_in_segments if self.segments else self.most_work

    def splits(self, domain: Shape, reduced: tuple[int, ...]) -> bool:
        """Whether a reduction of `domain` over `reduced` is done in parallel parts that a second
        kernel combines.
        """
        return self.streams(domain, reduced) or self.has_parts(domain, reduced)

    def has_parts(self, domain: Shape, reduced: tuple[int, ...]) -> bool:
        """Whether one that leaves few results of many elements is."""
        kept = product(extent for axis, extent in enumerate(domain) if axis not in reduced)
        total = product(domain)
        if not isinstance(kept, int):
            return False
        each = product(domain[axis] for axis in reduced)
        last = len(domain) - 1 in reduced
        shared = kept >= self.shared_columns and not _exceeds(each, self.whole_elements)
        if not last and shared and self.shared_columns:
            return False
        if not last and kept <= self.split_columns and _exceeds(each, self.split_rows):
            return _exceeds(total, self.split_elements)
        if kept > self.few_results:
            return False
        whole = self.whole_results is not None and kept >= self.whole_results and last
        if whole and not _exceeds(each, self.whole_elements):
            return False
        return _exceeds(total, self.split_elements)

    def lanes_of_column(self, columns: Extent) -> int:
        """How many lanes, at least, share the rows of each of so many columns of a task."""
        if not self.shared_columns or not isinstance(columns, int) or columns <= 0:
            return 1
        return max(1, LANES_OF_TASK // columns)

    def streams(self, domain: Shape, reduced: tuple[int, ...]) -> bool:
        """Whether a reduction adds up parts of the rows as they lie in memory: of long columns, and
        of axes that others part, between which the elements of one result lie in short pieces.
        """
        known = all(isinstance(extent, int) for extent in domain)
        if not self.strips or not reduced or not known:
            return False
        if not _exceeds(product(domain), self.streamed_elements):
            return False
        rows = runs_of_axes(reduced)[0]
        pieces = [axis for axis in reversed(range(len(domain))) if axis in reduced]
        height = product(domain[axis] for axis in rows)
        if rows[-1] == len(domain) - 1:
            return False
        if len(rows) == len(reduced):
            return _exceeds(height, self.long_column - 1)
        piece = product(domain[a] for i, a in enumerate(pieces) if a == len(domain) - 1 - i)
        return _exceeds(height, self.parted_column - 1) and not _exceeds(piece, self.whole_piece)


def runs_of_axes(
    axes: Sequence[int], broken: Collection[int] = ()
) -> list[tuple[int, ...]]:
    """Axes in order, neighbours together, but for those `broken` apart from the axis after them."""
    runs: list[list[int]] = []
    for axis in axes:
        if runs and runs[-1][-1] == axis - 1 and axis - 1 not in broken:
            runs[-1].append(axis)
        else:
            runs.append([axis])
    return [tuple(run) for run in runs]


def _exceeds(extent: Extent, limit: int) -> bool:
    """Whether an extent is, or may be, larger than a limit."""
    return not isinstance(extent, int) or extent > limit


# A CPU whose kernels are whole loops, for a C compiler or the interpreter; one for which LLVM
# compiles them; and a GPU.
CPU = Tactics()
NATIVE = replace(
    CPU,
    segments=True,
    straight=16 if platform.machine() in ("x86_64", "AMD64") else 0,
    kept_bytes=1 << 20,
    streams_of_part=4,
    whole_results=16,
    whole_elements=65536,
    short_rows=16,
    turned_elements=1 << 12,
    turned_pieces=1 << 23,
)
GPU = Tactics(
    masks_updates=True,
    part_elements=32768,
    whole_results=16,
    whole_elements=65536,
    split_columns=16384,
    shared_columns=1024,
    split_rows=256,
    strips=False,
    summed_in_lanes=1 << 22,
    least_parts=256,
    rows_of_part=16,
    turned_rows=64,
    turned_bytes=0,
    one_lane_axis=True,
    parts_of_row=6,
    boxes_of_rows=False,
    weaves_turns=False,
    blocks_of_rows=False,
    combines_in_lanes=True,
    rows_before_epilogues=True,
    stores_windowed=False,
    reduced_columns=0,
    made_apart=0,
    inlined_cost=8,
    handed_columns=(128, 512),
    few_delaying=64,
    joins_outputs=True,
    rows_take_besides=True,
    sums_take_outputs=False,
    remade_cost=100,
    remakes_masks=True,
    flat_columns=True,
    narrow_rows=16,
    branches=4,
)
