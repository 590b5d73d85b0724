"""How is a loop written?  In order, with what it carries in registers, or in lanes.

A vector loop becomes a loop over whole vectors, several at once, and one over what is left, vector
by vector under a mask; inside, every value is a vector. What adds up, or holds loops, does what is
left at once: the order of a sum depends on it. A body is written before what surrounds it, see
`level`. A loop of a segment is written once, under a mask unless it is whole vectors; one that
stores to large arrays twice, see `stream`. Loops over rows that only sum up are written several
rows at once, see `row_sums`, and those that read memory across its rows in strips, see `turned`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from graphc.codegen import segments
from graphc.codegen.lanes import choose_lanes, lanes_of_one_vector
from graphc.codegen.llvm.accumulators import Accumulators
from graphc.codegen.llvm.ahead import (
    NextBlock,
    elements_ahead,
    next_block_ahead,
    next_row_ahead,
    pieces_ahead,
    rows_ahead,
    rows_sought,
    tile_ahead,
)
from graphc.codegen.llvm.level import Lanes, Level
from graphc.codegen.llvm.loads import Loads
from graphc.codegen.llvm.narrow import counted_terms, narrow_lanes, narrow_terms
from graphc.codegen.llvm.pauses import Pauses, steps_between_pauses
from graphc.codegen.llvm.row_sums import RowSums, RowSumsWriter, row_sums
from graphc.codegen.llvm.rows import written_blocks
from graphc.codegen.llvm.scalar import constant
from graphc.codegen.llvm.stores import Stores
from graphc.codegen.llvm.stream import Traffic, may_stream, streaming_stores
from graphc.codegen.llvm.sums import in_registers
from graphc.codegen.llvm.turned import TurnedLoop, ask, fill, strip_end, strip_start, turned_loop
from graphc.codegen.llvm.unordered import noted_terms
from graphc.codegen.loops import LINE_BYTES, Buffer
from graphc.codegen.recurrence import carried_loads
from graphc.codegen.scalar import For, Scope, Store, Value, walk
from graphc.dims import affine

# So many vectors of a short row are written one after the other, rather than as a loop.
WRITTEN_OUT = 4
# A loop of more stores than these leaves them to masks: each is several blocks of code in parts.
MOST_IN_PARTS = 8


class Loops:
    """The loops of one function; `write` writes the statements of a body."""

    # Of a vector loop without sums, whose order would depend on them; None: as many as it likes.
    most_lanes: int | None = None

    def __init__(
        self,
        loads: Loads,
        stores: Stores,
        accumulators: Accumulators,
        pauses: Pauses,
        write: Callable[[Level, Scope], None],
    ) -> None:
        self.loads, self.stores = loads, stores
        self.accumulators, self.pauses = accumulators, pauses
        self.indices, self.values = loads.indices, loads.values
        self.write = write
        self.turning: set[tuple[int, int]] = set()  # sizes of elements, and sides of blocks
        self.row_sums = RowSumsWriter(self.indices, accumulators, self._reduced)
        self.traffic: Traffic | None = None  # None: nothing goes past the caches here
        self.meanwhile: dict[int, list[NextBlock]] = {}  # by loops, what they ask for
        self.asking: dict[int, tuple[TurnedLoop, str]] = {}  # strips by loops, and where they begin

    def counted(self, level: Level, loop: For, start: str, stop: str) -> None:
        """A loop in order, with accumulators carried in registers."""
        lanes = level.lane_count
        across = None if self.traffic is None else turned_loop(loop, self.values.machine)
        if across is not None:
            self._in_strips(level, across, start, stop)
            return
        for part in in_registers(loop, lanes, self.values.machine):
            self._in_order(level, part, start, stop)

    def _in_order(self, level: Level, loop: For, start: str, stop: str) -> None:
        """All that a loop carries, in registers."""
        lanes = level.lane_count
        self._prepare(loop)
        sums = row_sums(loop, self.values.machine.vector_bytes) if lanes == 1 else None
        if sums is not None:
            middle = self._whole_span(level, start, stop, sums.count)[0]
            self._carried(level, loop, start, middle, sums.count, 1, {}, sums)
            start = middle
        initial = self.accumulators.first(loop.accumulators, lanes)
        initial |= self._first_loads(level, loop, start, stop)
        self.accumulators.results.update(self._carried(level, loop, start, stop, 1, lanes, initial))

    def _first_loads(self, level: Level, loop: For, start: str, stop: str) -> dict[Any, str]:
        """What the first iteration reads by the loads that registers replace from then on."""
        found: dict[Any, str] = {}
        for load, store in carried_loads(loop):
            ahead = Level(loop.body, level, block=level.block)
            ahead.symbols[loop.variable] = start
            how, at = self.indices.place(ahead, store.buffer, load.immediate.index, ())
            lanes, size = level.lanes, store.buffer.item_bytes
            if how != ("uniform" if lanes is None else "wide"):
                continue
            some = self.values.fresh("c")
            ahead.put(f"{some} = icmp slt i64 {start}, {stop}")
            if lanes is None:
                fill = constant(0, load.dtype, 1)
                found[load] = self.loads.guarded(ahead, load, at, some, fill)
            else:
                safe, own = self.values.fresh("p"), self.indices.pointers[store.buffer]
                ahead.put(f"{safe} = select i1 {some}, ptr {at}, ptr {own}")
                mask = self.values.broadcast(ahead, some, "i1", lanes.count)
                if lanes.mask is not None:
                    mask = self.values.both(ahead, mask, lanes.mask)
                masked = replace(lanes, mask=mask)
                found[load] = self.loads.wide(ahead, safe, load.dtype, masked, size)
            self.accumulators.loads[id(store)] = load
            level.lines.extend(ahead.lines)
            level.block = ahead.block
        return found

    def _prepare(self, loop: For) -> None:
        """Ask ahead for what a loop in order reads in short pieces of the rows of memory."""
        if self.traffic is not None:
            self.loads.ahead |= pieces_ahead(loop, self.values.machine.l2)
            self.loads.ahead |= next_row_ahead(loop, self.values.machine.l2)
            block = next_block_ahead(loop, self.values.machine.l2)
            if block is not None:
                self.meanwhile[id(block[0])] = block[1]

    def _in_strips(self, level: Level, loop: TurnedLoop, start: str, stop: str) -> None:
        """A loop in order whose lanes read across the rows of memory: strip by strip, each of which
        is turned before it runs.
        """
        tag, turned, row = self.values.tag(), loop.turned, loop.row
        self.turning |= loop.routines(self.values.machine)
        self.loads.ahead |= tile_ahead(row, loop.lanes)
        first = f"%s{tag}"
        strip = Level(level.scope, level, block=f"strip{tag}")
        strip.symbols[strip_start(row)] = first
        end = strip_end(self.indices, strip, loop, first, stop)
        count = self.values.fresh()
        strip.put(f"{count} = sub i64 {end}, {first}")
        moved = {id(t.load): fill(self.indices, strip, loop, t, count) for t in turned}
        self.loads.moved |= moved
        if loop.asks:
            self.asking[id(row)] = (loop, first)
        self._carried(strip, row, first, end, 1, level.lane_count, {})
        some, more, before = self.values.fresh("c"), self.values.fresh("c"), level.block
        strip.put(f"{more} = icmp slt i64 {end}, {stop}")
        strip.put(f"br i1 {more}, label %strip{tag}, label %turned{tag}")
        level.put(f"{some} = icmp slt i64 {start}, {stop}")
        level.put(f"br i1 {some}, label %strip{tag}, label %turned{tag}")
        level.label(f"strip{tag}")
        level.put(f"{first} = phi i64 [{start}, %{before}], [{end}, %{strip.block}]")
        level.lines += strip.lines
        level.label(f"turned{tag}")

    def _carried(
        self,
        level: Level,
        loop: For,
        start: str,
        stop: str,
        step: int,
        lanes: int,
        initial: dict[Any, str],
        sums: RowSums | None = None,
    ) -> dict[Any, str]:
        """A loop by `step`, and what its accumulators hold after it. A step of several is one of as
        many lanes, or of the rows of `sums`.
        """
        tag = self.values.tag()
        i, following = f"%{loop.variable}_{tag}", f"%{loop.variable}n_{tag}"
        states = {a: f"%a{tag}_{k}" for k, a in enumerate(initial)}
        if step > 1 and sums is None:
            own = Lanes(loop.variable, lanes, i, None, end=stop)
            body = self._lane_body(level, loop, own, f"body{tag}", states)
        else:
            body = self._step_body(level, loop, (i, stop), f"body{tag}", states, sums)
        final = self.accumulators.close(states)
        before = level.block
        condition, done = self.values.fresh("c"), self.values.fresh("c")
        pauses = self.pauses.wanted(loop, step)
        first, entrance = ("block", f"%from{tag}") if pauses else ("body", start)
        level.put(f"{condition} = icmp slt i64 {start}, {stop}")
        level.put(f"br i1 {condition}, label %{first}{tag}, label %exit{tag}")
        origin, limit, entering = before, stop, initial
        if pauses:
            entering = {a: f"{name}f" for a, name in states.items()}
            origin, limit = f"block{tag}", f"%limit{tag}"
            level.label(origin)
            level.put(f"{entrance} = phi i64 [{start}, %{before}], [{following}, %go{tag}]")
            for a, name in entering.items():
                ends = f"[{initial[a]}, %{before}], [{final[a]}, %go{tag}]"
                level.put(f"{name} = phi {self.accumulators.typed(a, lanes)} {ends}")
            self.pauses.block_end(level, limit, entrance, stop, steps_between_pauses(loop) * step)
            level.put(f"br label %body{tag}")
        level.label(f"body{tag}")
        level.put(f"{i} = phi i64 [{entrance}, %{origin}], [{following}, %latch{tag}]")
        for a, name in states.items():
            ends = f"[{entering[a]}, %{origin}], [{final[a]}, %latch{tag}]"
            level.put(f"{name} = phi {self.accumulators.typed(a, lanes)} {ends}")
        level.lines.extend(body.lines)
        if body.finished is None:
            level.put(f"br label %latch{tag}")
        else:  # there are no accumulators, whose phis would have to know this way out
            level.put(f"br i1 {body.finished}, label %exit{tag}, label %latch{tag}")
        level.label(f"latch{tag}")
        level.put(f"{following} = add nsw i64 {i}, {step}")
        level.put(f"{done} = icmp slt i64 {following}, {limit}")
        if not pauses:
            level.put(f"br i1 {done}, label %body{tag}, label %exit{tag}")
            return self._leave(level, tag, before, f"latch{tag}", lanes, initial, final)
        level.put(f"br i1 {done}, label %body{tag}, label %pause{tag}, !prof !1")
        self.pauses.ask(level, tag, following, stop)
        return self._leave(level, tag, before, f"pause{tag}", lanes, initial, final)

    def _step_body(
        self,
        level: Level,
        loop: For,
        span: tuple[str, str],
        block: str,
        states: dict[Any, str],
        sums: RowSums | None,
    ) -> Level:
        """One iteration, at the start of a span, or the rows of `sums`."""
        position, stop = span
        body = Level(loop.body, level, block=block)
        body.symbols[loop.variable] = position
        if sums is not None:
            self.loads.shared = {id(s): {} for s in sums.shared_loads(self.values.machine)}
            self.row_sums.write(body, sums, position)
            self.loads.shared = {}
        else:
            self.accumulators.states.update(states)
            large, alone = self.values.machine.l2, body.lane_count == 1
            rows = rows_sought(loop, large) if self.traffic is not None and alone else []
            for sought in rows:
                self.loads.seek(body, loop, position, stop, sought)
            if id(loop) in self.asking:
                strips, begin = self.asking[id(loop)]
                count = self.values.fresh()
                body.put(f"{count} = sub i64 {position}, {begin}")
                for turned in strips.turned:
                    ask(self.indices, body, strips, turned, count)
            self.write(body, loop.body)
            for sought in rows:
                del self.loads.sought[id(sought.load)]
        return body

    def _leave(
        self,
        level: Level,
        tag: int,
        before: str,
        last: str,
        lanes: int,
        initial: dict[Any, str],
        final: dict[Any, str],
    ) -> dict[Any, str]:
        """The block after a loop or a branch: accumulators hold what they had before, or what was
        made of it.
        """
        level.label(f"exit{tag}")
        results = {}
        for a, name in initial.items():
            results[a] = self.values.fresh("m")
            typed = self.accumulators.typed(a, lanes)
            level.put(f"{results[a]} = phi {typed} {_incoming([(name, before), (final[a], last)])}")
        return results

    def vector(self, level: Level, loop: For) -> None:
        """Whole vectors, then what is left under masks."""
        count = self.lanes_of(loop)
        if self.traffic is not None:
            self.loads.ahead |= rows_ahead(loop, self.values.machine.l2)
            self.loads.scattered |= elements_ahead(loop, self.values.machine)
        if loop.segment and loop.full and segments.MULTIPLE % count == 0:
            bounds = self.indices.dim(level, loop.start), self.indices.dim(level, loop.stop)
            self._carried(level, loop, *bounds, count, count, {})
            return
        if loop.segment:
            bounds = self.indices.dim(level, loop.start), self.indices.dim(level, loop.stop)
            self._masked(level, loop, count, *bounds)
            return
        if self._narrow(level, loop):
            return
        self._accumulated(level, loop, count)

    def _accumulated(self, level: Level, loop: For, count: int) -> None:
        """A loop in lanes, and what its accumulators come to in all of them."""
        counts = counted_terms(loop) if count > 1 else {}
        noted = noted_terms(loop, count, self.values.machine)
        narrow, unordered = self.accumulators.narrow, self.accumulators.unordered
        narrow.counts |= counts
        unordered.noted |= noted
        given = self.accumulators.first(loop.accumulators, count) | unordered.first(noted)
        found = self._in_lanes(level, loop, count, given)
        for a in loop.accumulators:
            total = self.accumulators.combine_lanes(level, a, found[a], count)
            if a in noted:
                total = unordered.extreme(level, a, total, found[noted[a]], count)
            self.accumulators.results[a] = total
        for a in counts:
            del narrow.counts[a]
        for a in noted:
            del unordered.noted[a]

    def _narrow(self, level: Level, loop: For) -> bool:
        """Narrow terms, if a loop accumulates those: whole vectors of them, then what is left: one
        by one, or if it is known how many, as usual. Whether it was written so.
        """
        machine, narrow = self.values.machine, self.accumulators.narrow
        terms, count = narrow_terms(loop, machine), narrow_lanes(machine)
        static = isinstance(loop.start, int) and isinstance(loop.stop, int)
        length = loop.stop - loop.start if static else None  # type: ignore[operator]
        # LLVM keeps bits in one register where there is no loop.
        least = 2 * count if any(a.dtype == "bool" for a in terms) else count
        if not terms or length is not None and length < least:
            return False
        start, stop = self.indices.dim(level, loop.start), self.indices.dim(level, loop.stop)
        middle = self._whole_span(level, start, stop, count)[0]
        narrow.terms |= terms
        initial = self.accumulators.first(loop.accumulators, count)
        carried = self._carried(level, loop, start, middle, count, count, initial)
        totals = {a: self.accumulators.combine_lanes(level, a, carried[a], count) for a in carried}
        for a in terms:
            del narrow.terms[a]
        if length is None:
            totals = self._carried(level, loop, middle, stop, 1, 1, totals)
        elif length % count:
            rest = replace(loop, start=loop.stop - length % count)
            lanes = self.lanes_of(rest)
            for a, name in self._in_lanes(level, rest, lanes).items():
                last = self.accumulators.combine_lanes(level, a, name, lanes)
                totals[a] = self.accumulators.combined(level, a, totals[a], last, 1)
        self.accumulators.results.update(totals)
        return True

    def _reduced(self, level: Level, loop: For) -> tuple[int, dict[Any, str]]:
        """How many lanes a short loop has, and what they have accumulated from nothing on."""
        self.loads.ahead |= rows_ahead(loop, self.values.machine.l2) if self.traffic else {}
        count = choose_lanes(loop, self.values.machine.vector_bytes)
        assert isinstance(loop.start, int) and isinstance(loop.stop, int)
        current, position = self.accumulators.nothing(loop.accumulators), loop.start
        whole = (loop.stop - position) // count
        for _ in range(whole if whole <= WRITTEN_OUT else min(whole, 1)):
            lanes = Lanes(loop.variable, count, str(position), None)
            body = self._lane_body(level, loop, lanes, level.block, current)
            level.lines.extend(body.lines)
            level.block = body.block
            current = self.accumulators.close(current)
            position += count
        return count, self._in_lanes(level, replace(loop, start=position), count, current)

    def _whole_span(
        self, level: Level, start: str, stop: str, count: int
    ) -> tuple[str, str]:
        """Up to where a range is whole pieces of `count`, a power of two, and what is left."""
        total, whole, span, middle, rest = (self.values.fresh() for _ in range(5))
        self.values.declarations.add("declare i64 @llvm.smax.i64(i64, i64)")
        level.put(f"{span} = sub i64 {stop}, {start}")
        level.put(f"{total} = call i64 @llvm.smax.i64(i64 {span}, i64 0)")
        level.put(f"{whole} = and i64 {total}, {-count}")
        level.put(f"{middle} = add i64 {start}, {whole}")
        level.put(f"{rest} = sub i64 {total}, {whole}")
        return middle, rest

    def _in_lanes(
        self, level: Level, loop: For, count: int, given: dict[Any, str] | None = None
    ) -> dict[Any, str]:
        """Whole vectors and what is left; what the lanes have accumulated, on top of what is given.
        """
        static = isinstance(loop.start, int) and isinstance(loop.stop, int)
        length = loop.stop - loop.start if static else None  # type: ignore[operator]
        start = self.indices.dim(level, loop.start)
        current = given or self.accumulators.first(loop.accumulators, count)
        if length is None:
            stop = self.indices.dim(level, loop.stop)
            middle, rest = self._whole_span(level, start, stop, count)
        else:
            whole_length = length // count * count
            middle, rest = str(loop.start + whole_length), str(length - whole_length)  # type: ignore[operator]
        if length is None or length >= count:
            current = self._whole_vectors(level, loop, start, middle, count, current)
        if length is None and self._is_plain(loop):
            one = min(count, lanes_of_one_vector(loop, self.values.machine.vector_bytes))
            self._masked(level, loop, one, middle, stop)
        elif length is None or length % count:
            current = self._remainder(level, loop, count, middle, rest, current, length is None)
        return current

    def lanes_of(self, loop: For) -> int:
        """How many lanes the vectors of a loop have."""
        count = choose_lanes(loop, self.values.machine.vector_bytes)
        if self.most_lanes is not None and not loop.accumulators:
            count = min(count, self.most_lanes)
        if not loop.accumulators and self._reaches_apart(loop):
            # Addresses take 8 bytes a lane, and elements are fetched one by one: lanes beyond two
            # vectors of addresses gain nothing, and cost tens of milliseconds to compile. Sums keep
            # their lanes, on which their order depends.
            vector_bytes = self.values.machine.vector_bytes
            blocks = written_blocks(loop.body, loop.variable, count, vector_bytes)
            # Short rows that are written together are whole lines.
            sizes = [block.stores[0].buffer.item_bytes for block in blocks if block.whole]
            lines = max((LINE_BYTES // size for size in sizes), default=0)
            count = min(count, max(2, vector_bytes // 4, lines))
        return count

    def single(self, level: Level, loop: For, masked: bool) -> None:
        """A loop of a single vector: all lanes of it, or those that a mask of the rest leaves."""
        count, start = self.lanes_of(loop), self.indices.dim(level, loop.start)
        mask = None
        if masked:
            rest = self.indices.dim(level, loop.stop - loop.start)
            mask, prefix = self._mask_of(rest, count, True)
            level.lines.extend(prefix)
        lanes = Lanes(loop.variable, count, start, mask)
        body = self._lane_body(level, loop, lanes, level.block, {})
        level.lines.extend(body.lines)
        level.block = body.block

    def _whole_vectors(
        self, level: Level, loop: For, start: str, stop: str, count: int, initial: dict[Any, str]
    ) -> dict[Any, str]:
        """The whole vectors of a loop; in two versions where its stores may go past the caches."""
        given = (loop, start, stop, count, count, initial)
        stores = streaming_stores(loop, count, self.traffic) if self.traffic else []
        if self.traffic is None or not stores:
            return self._carried(level, *given)
        self.traffic.streamed += [store.buffer for store in stores]
        condition, head = may_stream(self.indices, level, loop, stores, self.traffic)
        tag = self.values.tag()
        versions: dict[str, Level] = {}
        made: dict[str, dict[Any, str]] = {}
        for name, past in (("past", stores), ("through", [])):
            versions[name] = Level(level.scope, level, block=f"{name}{tag}")
            self.stores.streaming = {id(store) for store in past}
            if past and head:
                self._from_a_line(versions[name], loop, start, stop, count, head)
                made[name] = {}
            else:
                made[name] = self._carried(versions[name], *given)
        self.stores.streaming = set()
        level.put(f"br i1 {condition}, label %past{tag}, label %through{tag}")
        for name, version in versions.items():
            level.label(f"{name}{tag}")
            level.lines.extend(version.lines)
            level.put(f"br label %joined{tag}")
        level.label(f"joined{tag}")
        results = {}
        for accumulator in initial:
            results[accumulator] = self.values.fresh("m")
            ends = [(made[name][accumulator], version.block) for name, version in versions.items()]
            typed = self.accumulators.typed(accumulator, count)
            level.put(f"{results[accumulator]} = phi {typed} {_incoming(ends)}")
        return results

    def _from_a_line(
        self, level: Level, loop: For, start: str, stop: str, count: int, head: str
    ) -> None:
        """A loop without sums in whole vectors after its first `head` elements: those, and what is
        left at the end, are done one by one. What goes past the caches is whole lines.
        """
        sizes = [s.buffer.item_bytes for s in loop.body.statements if isinstance(s, Store)]
        whole = max(count, LINE_BYTES // min(sizes))
        line, first = self.values.fresh(), self.values.fresh()
        self.values.declarations.add("declare i64 @llvm.smin.i64(i64, i64)")
        level.put(f"{line} = add i64 {start}, {head}")
        level.put(f"{first} = call i64 @llvm.smin.i64(i64 {line}, i64 {stop})")
        middle = self._whole_span(level, first, stop, whole)[0]
        self._carried(level, loop, start, first, 1, 1, {})
        self._carried(level, loop, first, middle, count, count, {})
        self._carried(level, loop, middle, stop, 1, 1, {})

    def _is_plain(self, loop: For) -> bool:
        """Whether what is left of a loop may be done vector by vector: it adds nothing up, and
        holds no loop, whose work would be done for each of them.
        """
        inner = any(isinstance(s, For) for s in walk(loop.body))
        return not loop.accumulators and not inner

    def _counts_lanes(self, loop: For) -> bool:
        """Whether stores to some lanes write powers of two of them, and no mask is asked: where
        masks are no registers of their own such a store takes as long as ten, or a branch a lane.
        """
        stores = sum(isinstance(s, Store) for s in walk(loop.body))
        return not self.values.machine.has_masks and stores <= MOST_IN_PARTS

    def _masked(self, level: Level, loop: For, count: int, start: str, stop: str) -> None:
        """All vectors under a mask, so that a long body is written once."""
        tag = self.values.tag()
        i, following = f"%{loop.variable}_{tag}", f"%{loop.variable}n_{tag}"
        rest, single, some, more = (self.values.fresh(p) for p in ("t", "c", "c", "c"))
        header = Level(loop.body, level, block=f"body{tag}")
        header.put(f"{i} = phi i64 [{start}, %{level.block}], [{following}, %latch{tag}]")
        header.put(f"{rest} = sub i64 {stop}, {i}")
        mask = self._mask_below(header, rest, count, short=not loop.segment)
        header.put(f"{single} = icmp eq i64 {rest}, 1")
        own = _scratch_for(loop, count) if loop.segment else frozenset()
        counted = rest if not loop.segment and self._counts_lanes(loop) else ""
        lanes = Lanes(loop.variable, count, i, mask, single, counted, own=own)
        body = self._lane_body(level, loop, lanes, f"body{tag}", {})
        if loop.segment:  # it is never empty
            level.put(f"br label %body{tag}")
        else:
            level.put(f"{some} = icmp slt i64 {start}, {stop}")
            level.put(f"br i1 {some}, label %body{tag}, label %exit{tag}")
        level.label(f"body{tag}")
        level.lines += header.lines + body.lines
        level.put(f"br label %latch{tag}")
        level.label(f"latch{tag}")
        level.put(f"{following} = add nsw i64 {i}, {count}")
        level.put(f"{more} = icmp slt i64 {following}, {stop}")
        level.put(f"br i1 {more}, label %body{tag}, label %exit{tag}")
        level.label(f"exit{tag}")

    def _mask_below(self, level: Level, rest: str, count: int, short: bool) -> str:
        """The lanes whose number is below `rest`, compared in the width of the lanes if `rest` is
        known to be `short`, which saves narrowing the mask.
        """
        wide = not short or count * 8 <= self.values.machine.vector_bytes
        kind, number = "i64", rest
        if not wide:
            kind, number = "i32", self.values.fresh()
            level.put(f"{number} = trunc i64 {rest} to i32")
        spread = self.values.broadcast(level, number, kind, count)
        numbers = ", ".join(f"{kind} {k}" for k in range(count))
        mask = self.values.fresh("mask")
        level.put(f"{mask} = icmp slt <{count} x {kind}> <{numbers}>, {spread}")
        return mask

    def _reaches_apart(self, loop: For) -> bool:
        """Whether lanes of a loop read or write elements that do not lie side by side. Those of
        straight code do, see `segments.is_arithmetic`.
        """
        if loop.straight:
            return False
        inside = set(map(id, walk(loop.body)))
        for statement in walk(loop.body):
            if isinstance(statement, Store):
                buffer, index, args = statement.buffer, statement.index, statement.args
            elif isinstance(statement, Value) and statement.opcode == "load":
                address = self.loads.address(statement)
                buffer, index = address.buffer, address.index
                args = statement.args[: address.count]
            else:
                continue
            split = affine(self.indices.position(buffer, index), loop.variable)
            if split is None or split[0] not in (0, self.indices.step(buffer)):
                return True
            if any(id(value) in inside for value in args):
                return True
        return False

    def _remainder(
        self,
        level: Level,
        loop: For,
        count: int,
        position: str,
        rest: str,
        initial: dict[Any, str],
        unknown: bool,
    ) -> dict[Any, str]:
        """The last lanes, fewer than a vector, under a mask."""
        tag = self.values.tag()
        mask, prefix = self._mask_of(rest, count, unknown)
        states = dict(initial)
        single = "true" if rest == "1" and not unknown else ""
        counted = "" if unknown or self.values.machine.has_masks else rest
        lanes = Lanes(loop.variable, count, position, mask, single, counted)
        body = self._lane_body(level, loop, lanes, f"body{tag}", states)
        final = self.accumulators.close(states)
        if not unknown:
            level.lines.extend(prefix)
            level.put(f"br label %body{tag}")
            level.label(f"body{tag}")
            level.lines.extend(body.lines)
            level.block = body.block
            return final
        before = level.block
        condition = self.values.fresh("c")
        level.put(f"{condition} = icmp sgt i64 {rest}, 0")
        level.put(f"br i1 {condition}, label %body{tag}, label %exit{tag}")
        level.label(f"body{tag}")
        level.lines.extend(prefix)
        level.lines.extend(body.lines)
        level.put(f"br label %latch{tag}")
        level.label(f"latch{tag}")
        level.put(f"br label %exit{tag}")
        return self._leave(level, tag, before, f"latch{tag}", count, initial, final)

    def _mask_of(self, rest: str, count: int, unknown: bool) -> tuple[str, list[str]]:
        """Whether the number of a lane is below `rest`, and the lines that find it out."""
        mask = self.values.fresh("mask")
        prefix: list[str] = []
        numbers = ", ".join(f"i32 {k}" for k in range(count))
        if unknown:
            narrow = self.values.fresh()
            prefix.append(f"  {narrow} = trunc i64 {rest} to i32")
            first, spread = self.values.fresh(), self.values.fresh()
            vector = f"<{count} x i32>"
            prefix.append(f"  {first} = insertelement {vector} poison, i32 {narrow}, i64 0")
            prefix.append(
                f"  {spread} = shufflevector {vector} {first}, {vector} poison, {vector} "
                "zeroinitializer"
            )
        else:
            spread = f"splat (i32 {rest})"
        prefix.append(f"  {mask} = icmp slt <{count} x i32> <{numbers}>, {spread}")
        return mask, prefix

    def _lane_body(
        self, level: Level, loop: For, lanes: Lanes, block: str, states: dict[Any, str]
    ) -> Level:
        body = Level(loop.body, level, block=block, lanes=lanes)
        body.symbols[loop.variable] = lanes.position
        for rows in self.meanwhile.get(id(loop), ()) if lanes.mask is None else ():
            size = rows.buffer.item_bytes
            at = self.indices.pointer(body, rows.buffer, rows.position, size, {})
            self.loads.prefetch(body, at, lanes.count * rows.bytes)
        self.accumulators.states.update(states)
        self.write(body, loop.body)
        return body


def _scratch_for(loop: For, lanes: int) -> frozenset[Buffer]:
    """The scratch between segments that a segment may load and store by whole vectors, since tiles
    are so many of them.
    """
    found = set()
    for statement in loop.body.statements:
        if isinstance(statement, Store):
            found.add(statement.buffer)
        elif isinstance(statement, Value) and statement.opcode == "load":
            found.add(statement.immediate.buffer)
    return frozenset(b for b in found if b.space == "worker" and b.shape[-1] % lanes == 0)


def _incoming(values: list[tuple[str, str]]) -> str:
    """The operands of a phi: values with the blocks that they come from."""
    return ", ".join(f"[{value}, %{block}]" for value, block in values)
