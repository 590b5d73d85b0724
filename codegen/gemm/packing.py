"""How does a panel of an operand come into the order in which register tiles read it?

- `pack_kernel`: from memory with constant strides, by copying where neighbours across the panel lie
  side by side, by transposing where neighbours along k do.
- `beside_kernel`: the same copies for several panels at once, by rows of all of them.
- `lay_kernel`: from where tables of offsets say, as windows into an array lie.

Like the tiles, they take sizes and strides at run time.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.codegen.gemm.microkernel import Tile, prefetch_row
from graphc.codegen.irtext import Function, Operand, VectorType

# Packing crosses the source in short steps with long strides, which no prefetcher foresees.
PREFETCH_ROWS = 8
PREFETCH_BYTES = 256


def pack_kernel(tile: Tile, side: str) -> Function:
    """Copy a panel, W rows of the left or W columns of the right operand, into packed order.

    Element (i, k), i across the panel, goes to ``destination + (k * W + i) * element bytes``. Of
    i >= count nothing is read; what the panel holds there is unspecified, and so is a vector's
    worth of bytes after its last row (`panel_bytes` counts it).
    """
    vector = tile.vector
    width = tile.rows if side == "left" else tile.columns
    f = Function(
        tile.pack_name(side),
        "ptr noalias source, i64 across, i64 along, i64 count, i64 depth, ptr noalias destination",
    )
    source, across, along, count, depth, destination = f.parameters
    place = f.let("alloca i64, align 8")
    with f.when(f.compare("eq", across, vector.element_bytes)):
        _copy_panel(f, tile, width)
        f.leave()
    with f.when(f.compare("eq", along, vector.element_bytes)) as turned:
        done = _transpose_panel(f, tile, width, place)
    _gather_panel(f, tile, width, turned.merge("i64", done, 0))
    return f


def beside_kernel(tile: Tile, side: str) -> Function:
    """Copy `Tile.panels_beside` whole panels of an operand that lie side by side in memory, as
    `pack_kernel` would one by one; their destinations are ``panel`` bytes apart.

    Rows of single panels mostly lie across lines of memory, which would be fetched twice, and far
    apart, in pages of their own. A row of one panel of right of 1024 x 1024 float32 takes 8 cycles
    like this and 19 alone, of float64 9 and 23 (Zen 3).
    """
    vector = tile.vector
    size = vector.element_bytes
    elements = tile.rows if side == "left" else tile.columns
    width = elements * size
    f = Function(
        tile.beside_name(side),
        "ptr noalias source, i64 along, i64 depth, ptr noalias destination, i64 panel",
    )
    source, along, depth, destination, panel = f.parameters
    ahead = f.multiply(along, PREFETCH_ROWS)
    number = tile.panels_beside(side)
    starts = [f.at(destination, f.multiply(panel, n)) for n in range(number)]
    with f.loop(0, f.multiply(depth, width), width, [("ptr", source)]) as loop:
        (here,) = loop.carried
        prefetch_row(f, f.at(here, ahead), number * width)
        for place, start in enumerate(starts):
            there = f.at(start, loop.index)
            for first, lanes in _pieces(elements, vector.lanes):
                piece = VectorType(vector.element, lanes)
                value = f.load(piece.text, f.at(here, place * width + first * size), size)
                f.store(piece.text, value, f.at(there, first * size), size)
        loop.next = [f.at(here, along)]
    return f


def lay_kernel(tile: Tile) -> Function:
    """Copy a panel of a right operand that tables describe into packed order.

    Element (k, j) is at the sum of the offsets in bytes of column j and of k. Columns that follow
    each other in memory, or lie two elements apart, are copied as lanes of a vector; where only
    consecutive k do, stretches of them are transposed; what is left goes one by one. After the
    panel at most ``2 * lanes`` rows of it are written.
    """
    vector, width = tile.vector, tile.columns
    size, lanes = vector.element_bytes, vector.lanes
    f = Function(
        tile.lay_name,
        "ptr noalias source, ptr noalias columns, ptr noalias along, i64 count, i64 depth,"
        "ptr noalias destination",
    )
    source, columns, along, count, depth, destination = f.parameters
    place = f.let("alloca i64, align 8")
    if tile.machine.has_masks:
        _lay_transposed(f, tile, place)
    with f.loop(0, count, lanes) as block:
        table = f.at(columns, f.multiply(block.index, 8))
        there = f.at(destination, f.multiply(block.index, size))
        here = f.minimum(lanes, f.subtract(count, block.index))
        with f.loop(0, here) as lane:
            start = f.word(table, lane.index)
            step, run = _run_from(f, place, table, lane.index, here)
            run = f.select(f.either(*(f.compare("eq", step, n * size) for n in (1, 2))), run, 1)
            if not tile.machine.has_masks:
                whole = f.both(f.compare("eq", run, lanes), f.compare("eq", step, size))
                run = f.select(whole, run, 1)
            single = f.compare("eq", run, 1)
            twice = f.both(f.compare("eq", step, 2 * size), f.negate(single))
            base = f.at(source, start)
            with f.when(single), f.loop(0, depth) as k:
                at = f.at(base, f.word(along, k.index))
                to = f.at(there, f.multiply(f.add(f.multiply(k.index, width), lane.index), size))
                f.store(vector.element, f.load(vector.element, at, size), to, size)
            with f.when(f.negate(f.either(single, twice))):
                _lay_run(f, tile, base, lane.index, run, there)
            if tile.machine.has_masks:
                with f.when(twice):
                    _lay_spaced_run(f, tile, base, lane.index, run, there)
            lane.step = run
    return f


def _run_from(
    f: Function, place: Operand, table: Operand, first: Operand, count: Operand
) -> tuple[Operand, Operand]:
    """The distance of entry ``first`` to the next, and how many entries keep it; 1 at the end.

    ``place`` is memory for a word.
    """
    last = f.subtract(count, 1)
    following = f.word(table, f.minimum(f.add(first, 1), last))
    step = f.subtract(following, f.word(table, first))
    head, body, done = f.label(), f.label(), f.label()
    f.store("i64", first, place, 8)
    f.block(head)
    here = f.load("i64", place, 8)
    f.branch(f.compare("slt", here, last), body, done)
    f.block(body)
    after = f.add(here, 1)
    same = f.compare("eq", f.subtract(f.word(table, after), f.word(table, here)), step)
    f.store("i64", f.select(same, after, here), place, 8)
    f.branch(same, head, done)
    f.block(done)
    run = f.add(f.subtract(f.load("i64", place, 8), first), 1)
    return step, run


def _lay_run(
    f: Function, tile: Tile, base: Operand, lane: Operand, run: Operand, there: Operand
) -> None:
    """Neighbours in memory, for all k, to the lanes from ``lane`` on."""
    vector, size = tile.vector, tile.vector.element_bytes
    along, depth = f.parameters[2], f.parameters[4]
    mask = None
    if tile.machine.has_masks:
        mask = _mask_of_run(f, vector, lane, run, range(vector.lanes))
    before = f.at(base, f.multiply(lane, -size))
    with f.loop(0, depth, 1, [("ptr", there)]) as k:
        value = f.load_lanes(vector, f.at(before, f.word(along, k.index)), mask)
        f.store_lanes(vector, value, k.carried[0], mask)
        k.next = [f.at(k.carried[0], tile.columns * size)]


def _lay_spaced_run(
    f: Function, tile: Tile, base: Operand, lane: Operand, run: Operand, there: Operand
) -> None:
    """The same for elements that lie two apart: every other one of two vectors."""
    vector, size, lanes = tile.vector, tile.vector.element_bytes, tile.vector.lanes
    along, depth = f.parameters[2], f.parameters[4]
    mask = _mask_of_run(f, vector, lane, run, range(lanes))
    never = lanes  # no lane: the elements between
    low = [i // 2 if i % 2 == 0 else never for i in range(lanes)]
    high = [(i + lanes) // 2 if i % 2 == 0 else never for i in range(lanes)]
    masks = [_mask_of_run(f, vector, lane, run, numbers) for numbers in (low, high)]
    before = f.at(base, f.multiply(lane, -2 * size))
    with f.loop(0, depth, 1, [("ptr", there)]) as k:
        at = f.at(before, f.word(along, k.index))
        first = f.load_lanes(vector, at, masks[0])
        second = f.load_lanes(vector, f.at(at, vector.bytes), masks[1])
        value = f.shuffle(vector.text, first, second, range(0, 2 * lanes, 2))
        f.store_lanes(vector, value, k.carried[0], mask)
        k.next = [f.at(k.carried[0], tile.columns * size)]


def _mask_of_run(
    f: Function, vector: VectorType, lane: Operand, run: Operand, numbers: Sequence[int]
) -> str:
    """Lanes whose number is from ``lane`` on, and below ``lane + run``."""
    type_ = f"<{vector.lanes} x i64>"
    places = f"<{', '.join(f'i64 {number}' for number in numbers)}>"
    low = f.splat_integers(vector.lanes, lane)
    high = f.splat_integers(vector.lanes, f.add(lane, run))
    above = f.let(f"icmp sge {type_} {places}, {low}")
    below = f.let(f"icmp slt {type_} {places}, {high}")
    return f.let(f"and {vector.mask} {above}, {below}")


def _lay_transposed(f: Function, tile: Tile, place: Operand) -> None:
    """Where columns lie a constant step apart, and stretches of k are longer than runs of columns:
    pack those by transposing, and return.
    """
    source, columns, along, count, depth, destination = f.parameters
    vector, size = tile.vector, tile.vector.element_bytes
    step, run = _run_from(f, place, columns, 0, count)
    even = f.both(f.compare("eq", run, count), f.compare("ne", step, size))
    even = f.both(even, f.compare("ne", step, 2 * size))
    k_step, k_run = _run_from(f, place, along, 0, depth)
    long = f.compare("sge", k_run, f.minimum(depth, vector.lanes // 2))
    apt = f.both(f.both(even, long), f.compare("eq", k_step, size))
    with f.when(f.both(apt, f.compare("sgt", count, 1))):
        base = f.at(source, f.word(columns, 0))
        with f.loop(0, depth) as k:
            here_step, stretch = _run_from(f, place, along, k.index, depth)
            stretch = f.select(f.compare("eq", here_step, size), stretch, 1)
            f.call(
                "void",
                tile.pack_name("right"),
                *(("ptr", f.at(base, f.word(along, k.index))), ("i64", step), ("i64", size)),
                *(("i64", count), ("i64", stretch)),
                ("ptr", f.at(destination, f.multiply(k.index, tile.columns * size))),
            )
            k.step = stretch
        f.leave()


def _copy_panel(f: Function, tile: Tile, width: int) -> None:
    """Elements across the panel are neighbours in the source."""
    source, _, along, count, depth, destination = f.parameters
    vector, size = tile.vector, tile.vector.element_bytes
    ahead = f.multiply(along, PREFETCH_ROWS)
    if tile.machine.has_masks:
        firsts = range(0, width, vector.lanes)
        masks = [f.mask_below(vector, f.subtract(count, first)) for first in firsts]
        with f.loop(0, depth, 1, [("ptr", source), ("ptr", destination)]) as loop:
            here, there = loop.carried
            prefetch_row(f, f.at(here, ahead), width * size)
            for first, mask in zip(firsts, masks, strict=True):
                value = f.load_lanes(vector, f.at(here, first * size), mask)
                f.store_lanes(vector, value, f.at(there, first * size), None)
            loop.next = [f.at(here, along), f.at(there, width * size)]
        return
    with f.when(f.compare("ne", count, width)):
        _gather_panel(f, tile, width, 0)
        f.leave()
    with f.loop(0, depth, 1, [("ptr", source), ("ptr", destination)]) as loop:
        here, there = loop.carried
        prefetch_row(f, f.at(here, ahead), width * size)
        for first, lanes in _pieces(width, vector.lanes):
            piece = VectorType(vector.element, lanes)
            value = f.load(piece.text, f.at(here, first * size), size)
            f.store(piece.text, value, f.at(there, first * size), size)
        loop.next = [f.at(here, along), f.at(there, width * size)]


def _transpose_panel(f: Function, tile: Tile, width: int, place: Operand) -> Operand:
    """Elements along k are neighbours in the source: transpose squares of vectors by shuffles.

    Returns the first k that was not packed. A square is read by whole lines of the cache, some k at
    a time: as many as 16 bytes hold, of which each row has a place of its own in a vector, so that
    little is left to shuffle. Where the width is not a whole number of vectors, squares are taken
    from the last to the first. ``place`` is memory for a word: an index that comes from there keeps
    LLVM from working out how else sixteen rows could be walked along, for four times as long as it
    takes for all else.
    """
    source, across, _, count, depth, destination = f.parameters
    vector, size = tile.vector, tile.vector.element_bytes
    lanes = vector.lanes
    whole, rest = divmod(width, lanes)
    piece = VectorType(vector.element, 16 // size)
    done = f.multiply(f.divide(depth, piece.lanes), piece.lanes)
    last = f.subtract(count, 1)

    def square(k: Operand, first: Operand, height: int) -> None:
        corner = f.at(source, f.multiply(k, size))
        here = f.at(corner, f.multiply(f.minimum(first, last), across))
        rows: list[Operand] = []
        for i in range(height):
            rows.append(here)
            f.prefetch(f.at(here, PREFETCH_BYTES))
            more = f.compare("slt", f.add(first, i), last)
            here = f.at(here, f.select(more, across, 0))
        there = f.at(destination, f.multiply(f.add(f.multiply(k, width), first), size))
        stop = f.minimum(lanes, f.subtract(done, k))
        head, body, end = f.label(), f.label(), f.label()
        f.store("i64", 0, place, 8)
        f.block(head)
        part = f.load("i64", place, 8)
        f.branch(f.compare("slt", part, stop), body, end)
        f.block(body)
        at = f.multiply(part, size)
        pieces: list[Operand] = [f.load(piece.text, f.at(row, at), size) for row in rows]
        to = f.at(there, f.multiply(part, width * size))
        for column in _turned_pieces(f, vector, piece.lanes, pieces):
            # A whole vector would lie across lines of the cache, and be overwritten in part.
            for start, count in _pieces(height, lanes):
                own = VectorType(vector.element, count)
                value = f.shuffle(vector.text, column, "poison", range(start, start + count))
                f.store(own.text, value, f.at(to, start * size), size)
            to = f.at(to, width * size)
        f.store("i64", f.add(part, piece.lanes), place, 8)
        f.jump(head)
        f.block(end)

    with f.loop(0, done, lanes) as k:
        if rest:
            square(k.index, whole * lanes, rest)
        if whole:
            with f.loop(0, whole) as number:
                first = f.multiply(f.subtract(whole - 1, number.index), lanes)
                square(k.index, first, lanes)
    return done


def _turned_pieces(
    f: Function, vector: VectorType, wide: int, rows: Sequence[Operand]
) -> list[Operand]:
    """The columns of as many rows as a vector has lanes, or fewer, each of ``wide`` elements.

    Rows that lie ``wide`` apart become one vector; what is left are squares of ``wide`` rows in
    each 16 bytes of ``wide`` vectors, turned by interleaving pairs as often as halving goes.
    """
    absent = ["zeroinitializer"] * (vector.lanes - len(rows))
    every: list[Operand] = [*rows, *absent]
    vectors = [_joined(f, vector, wide, every[first::wide]) for first in range(wide)]
    halves = []
    for start in (0, wide // 2):
        places = [g + start + i for g in range(0, vector.lanes, wide) for i in range(wide // 2)]
        halves.append([lane for place in places for lane in (place, vector.lanes + place)])
    for _ in range(wide.bit_length() - 1):
        pairs = zip(vectors[: wide // 2], vectors[wide // 2 :], strict=True)
        vectors = [f.shuffle(vector.text, a, b, half) for a, b in pairs for half in halves]
    return vectors


def _joined(f: Function, vector: VectorType, wide: int, parts: Sequence[Operand]) -> Operand:
    """Parts of ``wide`` elements side by side in one vector."""
    joined = list(parts)
    while wide < vector.lanes:
        type_ = f"<{wide} x {vector.element}>"
        joined = [
            f.shuffle(type_, a, b, range(2 * wide))
            for a, b in zip(joined[::2], joined[1::2], strict=True)
        ]
        wide *= 2
    return joined[0]


def _gather_panel(f: Function, tile: Tile, width: int, first: Operand) -> None:
    """Any strides, one element at a time, from k = first on."""
    source, across, along, count, depth, destination = f.parameters
    element, size = tile.vector.element, tile.vector.element_bytes
    with f.loop(first, depth) as k:
        row = f.at(source, f.multiply(k.index, along))
        there = f.at(destination, f.multiply(k.index, width * size))
        with f.loop(0, count, 1, [("ptr", row), ("ptr", there)]) as loop:
            here, to = loop.carried
            f.store(element, f.load(element, here, size), to, size)
            loop.next = [f.at(here, across), f.at(to, size)]


def _pieces(width: int, lanes: int) -> list[tuple[int, int]]:
    """``width`` elements as (first, count) pieces, counts powers of two up to ``lanes``."""
    pieces, first = [], 0
    while first < width:
        count = lanes
        while count > width - first:
            count //= 2
        pieces.append((first, count))
        first += count
    return pieces
