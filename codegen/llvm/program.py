"""How is a program written as LLVM IR? One function a procedure: fill a frame, hand out the tasks,
next kernel.

Every launch has its frame on the stack of the procedure, filled from buffers, strides and extents.
A launch of one range of tasks calls the kernel; a larger one goes through `graphc_parallel_for`.
After a launch that can fail or that ran long the status record is looked at. Many launches whose
sizes are known are a table (`tables`). Otherwise a long procedure is cut into parts, functions of
the same signature that are called one after the other: the stack holds the frames of one part at a
time, and LLVM's time stays linear.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from graphc.codegen.llvm.arithmetic import LONG_SUM, Arithmetic
from graphc.codegen.llvm.level import Level
from graphc.codegen.llvm.pauses import may_run_long
from graphc.codegen.llvm.tables import DECLARATIONS, LAUNCHES, Table, with_tables, write
from graphc.codegen.loops import Contract, Kernel, scopes
from graphc.codegen.memory import aligned
from graphc.codegen.program import (
    BLOCK,
    Blocks,
    Call,
    Launch,
    Loop,
    Operand,
    Procedure,
    Program,
    Statement,
    Storage,
    Switch,
    Together,
    While,
)
from graphc.codegen.scalar import Check, walk
from graphc.codegen.status import Code, Status
from graphc.dims import Dim, Extent

# Iterations of a program loop between two looks for signals.
POLL_EVERY = 64
# Statements in one function; of a longer procedure every function is a part of this length.
MOST_STATEMENTS = 64


def program_module(
    program: Program, names: Mapping[int, str], workers: int, slots: Sequence[str]
) -> tuple[str, dict[str, Storage]]:
    """The module of a program and its constants by symbol.

    `names` maps the id of each kernel to its symbol; `slots` are the names of the extents of `main`
    in slot order. Exports `main` with the signature of decision 3.
    """
    constants = _Constants()
    parts = []
    declarations = {
        "declare void @graphc_parallel_for(ptr, ptr, i64, i64, i64, ptr)",
        "declare void @graphc_poll(ptr)",
    }
    for procedure in program.procedures:
        printer = _ProcedurePrinter(procedure, names, workers, procedure.sizes, constants)
        parts.append(printer.text(procedure.name, "internal "))
    parts.append(_ProcedurePrinter(program.main, names, workers, slots, constants).text("main", ""))
    if any(f"@{LAUNCHES}(" in part for part in parts):
        declarations.update(DECLARATIONS)
    declarations |= {f"declare void @{name}(ptr, i64, i64, i64)" for name in names.values()}
    declared = [f"@{symbol} = external global i8" for symbol in constants.storages]
    return "\n".join([*sorted(declarations), *declared, "", *parts]), constants.storages


class _Constants:
    """The constant arrays of a program, by symbol; an array that several storages hold is one."""

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}
        self._symbols: dict[int, str] = {}

    def symbol(self, storage: Storage) -> str:
        """The symbol of a constant."""
        symbol = self._symbols.get(id(storage.array))
        if symbol is None:
            symbol = self._symbols[id(storage.array)] = f"graphc_constant_{len(self.storages)}"
            self.storages[symbol] = storage
        return symbol


def can_stop(kernel: Kernel) -> bool:
    """Whether the kernel may leave its work undone: it holds a check, or looks for signals."""
    checks = any(isinstance(s, Check) for scope in scopes(kernel) for s in walk(scope))
    return checks or may_run_long(kernel)


class _ProcedurePrinter:
    """Writes one procedure."""

    def __init__(
        self,
        procedure: Procedure,
        names: Mapping[int, str],
        workers: int,
        slots: Sequence[str],
        constants: _Constants,
    ) -> None:
        self.procedure = procedure
        self.names = names
        self.workers = workers
        self.slots = slots
        self.constants = constants
        self.level = Level(None, None)
        self.allocations: list[str] = []
        self.globals: list[str] = []
        self.name = procedure.name
        self.buffers: dict[int, str] = {}
        self.stride_base: dict[int, int] = {}
        self.latest: tuple[Dim, str] | None = None  # the last long sum that was computed
        self._count = 0

    def fresh(self, prefix: str = "t") -> str:
        self._count += 1
        return f"%{prefix}{self._count}"

    def put(self, line: str) -> None:
        self.level.put(line)

    def text(self, name: str, linkage: str) -> str:
        self.name, procedure = name, self.procedure
        words = 0
        for storage in procedure.inputs:
            self.stride_base[id(storage)] = words
            words += len(storage.shape)
        for position, slot in enumerate(self.slots):
            at, value = self.fresh(), self.fresh("e")
            self.put(f"{at} = getelementptr i64, ptr %extents, i64 {position}")
            self.put(f"{value} = load i64, ptr {at}, align 8")
            self.level.symbols[slot] = value
        parts = self.parts(name)
        if not parts:
            self.statements(procedure.body)
        self.put("br label %finish")
        code = self.fresh()
        head = (
            f"define {linkage}i64 @{name}(ptr %buffers, ptr %extents, ptr %strides, "
            "ptr %workspace, ptr %status) nounwind {"
        )
        tail = [
            "finish:",
            f"  {code} = call i64 @state(ptr %status)",
            f"  ret i64 {code}",
            "}",
        ]
        state = [] if linkage else [_STATE]
        entry = ["entry:", *self.allocations, *self.level.lines]
        return "\n".join([*state, *parts, *self.globals, head, *entry, *tail])

    def parts(self, name: str) -> list[str]:
        """The functions into which a long procedure is cut, after writing the calls of them."""
        procedure, body = self.procedure, with_tables(self.procedure.body)
        texts: list[str] = []
        if len(body) <= MOST_STATEMENTS:
            return texts
        for start in range(0, len(body), MOST_STATEMENTS):
            called = f"{name}_{start}"
            chosen: Any = body[start : start + MOST_STATEMENTS]
            part = replace(procedure, body=chosen)
            printer = _ProcedurePrinter(
                part, self.names, self.workers, self.slots, self.constants
            )
            texts.append(printer.text(called, "internal "))
            self.go_on_after(
                f"@{called}(ptr %buffers, ptr %extents, ptr %strides, ptr %workspace, ptr %status)"
            )
        return texts

    def go_on_after(self, called: str) -> None:
        """Call a function that returns a status, and finish if it is one of failure."""
        result, failed = self.fresh(), self.fresh("c")
        self._count += 1
        tag = self._count
        self.put(f"{result} = call i64 {called}")
        self.put(f"{failed} = icmp ne i64 {result}, 0")
        self.put(f"br i1 {failed}, label %finish, label %go{tag}")
        self.level.label(f"go{tag}")

    def parameter(self, storage: Storage) -> str:
        """The address of an input or an output, loaded where the function begins."""
        found = self.buffers.get(id(storage))
        if found is None:
            at, found = self.fresh(), self.fresh("b")
            self.allocations += [
                f"  {at} = getelementptr ptr, ptr %buffers, i64 {storage.position}",
                f"  {found} = load ptr, ptr {at}, align 8",
            ]
            self.buffers[id(storage)] = found
        return found

    def dim(self, extent: Extent) -> str:
        if isinstance(extent, int):
            return str(extent)
        arithmetic = Arithmetic(
            self.level, self.fresh, "i64", str, lambda name: self.level.symbols[name]
        )
        if len(extent.terms) < LONG_SUM:
            return arithmetic.extent(extent)
        self.latest = arithmetic.following(extent, self.latest)
        return self.latest[1]

    def allocate(self, words: int) -> str:
        """Words on the procedure's stack."""
        name = self.fresh("frame")
        self.allocations.append(f"  {name} = alloca [{max(words, 1)} x i64], align 64")
        return name

    def set_word(self, base: str, position: int, value: str) -> None:
        at = self.fresh("w")
        self.put(f"{at} = getelementptr i64, ptr {base}, i64 {position}")
        self.put(f"store {value}, ptr {at}, align 8")

    # -- statements --------------------------------------------------------------------------------

    def statements(self, body: Sequence[Statement | Table]) -> None:
        """Write statements. What is computed inside a loop or a branch is unknown after it."""
        outside = self.latest
        for statement in with_tables(body):
            if isinstance(statement, Launch):
                self.launch(statement)
            elif isinstance(statement, Table):
                self.table(statement)
            elif isinstance(statement, Loop):
                self.loop(statement)
            elif isinstance(statement, While):
                self.repeat(statement)
            elif isinstance(statement, Switch):
                self.choose(statement)
            elif isinstance(statement, Together):
                self.statements(statement.launches)
            elif isinstance(statement, Call):
                self.call(statement)
            elif isinstance(statement, Blocks):
                self.blocks(statement)
            else:
                raise NotImplementedError("launches are chained for GPUs alone")
        self.latest = outside

    def address(self, operand: Operand) -> str:
        """The address of an operand's first element."""
        storage = operand.storage
        if storage.kind == "constant":
            base = self.constant(storage)
        elif storage.kind in ("temporary", "worker"):
            base = self.moved("%workspace", storage.offset)
        else:
            base = self.parameter(storage)
        return self.moved(base, operand.offset * storage.dtype.itemsize)

    def constant(self, storage: Storage) -> str:
        return f"@{self.constants.symbol(storage)}"

    def moved(self, base: str, offset: Extent) -> str:
        if offset == 0:
            return base
        moved = self.fresh("p")
        self.put(f"{moved} = getelementptr i8, ptr {base}, i64 {self.dim(offset)}")
        return moved

    def frame(self, launch: Launch) -> str:
        """The frame of a launch, filled in."""
        kernel = launch.kernel
        words = kernel.frame()
        frame = self.allocate(len(words))
        operands = dict(zip(map(id, kernel.buffers), launch.operands, strict=True))
        for position, (kind, item) in enumerate(words):
            if kind == "buffer":
                value = f"ptr {self.address(operands[id(item)])}"
            elif kind == "stride":
                buffer, axis = item
                value = f"i64 {self.stride(operands[id(buffer)].storage, axis)}"
            elif kind == "extent":
                value = f"i64 {self.level.symbols[item]}"
            elif kind == "scratch":
                scratch = launch.scratch
                value = f"ptr {'null' if scratch is None else self.address(Operand(scratch))}"
            elif kind == "workers":
                value = f"i64 {self.workers}"
            else:
                value = "ptr %status"
            self.set_word(frame, position, value)
        return frame

    def launch(self, launch: Launch) -> None:
        kernel, frame = launch.kernel, self.frame(launch)
        name = self.names[id(kernel)]
        tasks = "1" if isinstance(kernel.nest, Contract) else self.dim(launch.tasks)
        small = (
            isinstance(launch.tasks, int)
            and isinstance(launch.grain, int)
            and launch.tasks <= launch.grain
        )
        if isinstance(kernel.nest, Contract) or small:
            self.put(f"call void @{name}(ptr {frame}, i64 0, i64 {tasks}, i64 0)")
            if can_stop(kernel) or not small:
                self.stop_on_failure()
        else:
            self.hand_out(name, frame, tasks, self.dim(launch.grain), launch)

    def blocks(self, blocks: Blocks) -> None:
        """Hand out the blocks to a function of their own, which is told where everything is."""
        self._count += 1
        name = f"{self.name}.blocks{self._count}"
        printer = _BlocksPrinter(self, blocks)
        self.globals.append(printer.function(name))
        known = ["%buffers", "%extents", "%strides", "%workspace", "%status"]
        context = self.allocate(len(known) + len(printer.outer))
        for position, value in enumerate(known):
            self.set_word(context, position, f"ptr {value}")
        for position, symbol in enumerate(printer.outer, len(known)):
            self.set_word(context, position, f"i64 {self.level.symbols[symbol]}")
        self.put(
            f"call void @graphc_parallel_for(ptr @{name}, ptr {context}, i64 {blocks.count}, "
            f"i64 1, i64 {self.workers}, ptr %status)"
        )
        self.stop_on_failure()

    def table(self, table: Table) -> None:
        self._count += 1
        name = f"{self.name}.{self._count}"
        written = write(table, name, self.names, self.workers, self.constants.symbol)
        self.globals += written.globals
        self.allocations.append(f"  {written.allocation}")
        for line in written.filling:
            self.put(line)
        self.go_on_after(written.call)

    def hand_out(self, name: str, frame: str, tasks: str, grain: str, launch: Launch) -> None:
        """Run tasks in ranges; a single range is run here and now, with a look at the status record
        only if it can be left undone.
        """
        self._count += 1
        tag = self._count
        fits = self.fresh("c")
        self.put(f"{fits} = icmp sle i64 {tasks}, {grain}")
        self.put(f"br i1 {fits}, label %here{tag}, label %pool{tag}")
        self.level.label(f"here{tag}")
        self.put(f"call void @{name}(ptr {frame}, i64 0, i64 {tasks}, i64 0)")
        if can_stop(launch.kernel):
            self.stop_on_failure()
        self.put(f"br label %on{tag}")
        self.level.label(f"pool{tag}")
        self.put(
            f"call void @graphc_parallel_for(ptr @{name}, ptr {frame}, i64 {tasks}, "
            f"i64 {grain}, i64 {self.workers}, ptr %status)"
        )
        self.stop_on_failure()
        self.put(f"br label %on{tag}")
        self.level.label(f"on{tag}")

    def stride(self, storage: Storage, axis: int) -> str:
        at, value = self.fresh(), self.fresh("s")
        position = self.stride_base[id(storage)] + axis
        self.put(f"{at} = getelementptr i64, ptr %strides, i64 {position}")
        self.put(f"{value} = load i64, ptr {at}, align 8")
        return value

    def stop_on_failure(self) -> None:
        state, failed = self.fresh(), self.fresh("c")
        self._count += 1
        tag = self._count
        self.put(f"{state} = call i64 @state(ptr %status)")
        self.put(f"{failed} = icmp ne i64 {state}, 0")
        self.put(f"br i1 {failed}, label %finish, label %go{tag}")
        self.level.label(f"go{tag}")

    def loop(self, loop: Loop) -> None:
        self._count += 1
        tag = self._count
        length = self.dim(loop.length)
        before = self.level.block
        count, following = f"%n{tag}", f"%m{tag}"
        enter, again = self.fresh("c"), self.fresh("c")
        self.put(f"{enter} = icmp sgt i64 {length}, 0")
        self.put(f"br i1 {enter}, label %loop{tag}, label %after{tag}")
        self.level.label(f"loop{tag}")
        self.put(f"{count} = phi i64 [0, %{before}], [{following}, %latch{tag}]")
        step = count
        if loop.reverse:
            last, step = self.fresh(), self.fresh()
            self.put(f"{last} = sub i64 {length}, 1")
            self.put(f"{step} = sub i64 {last}, {count}")
        self.level.symbols[loop.variable] = step
        self.poll(count, tag)
        self.statements(loop.body)
        del self.level.symbols[loop.variable]
        self.put(f"br label %latch{tag}")
        self.level.label(f"latch{tag}")
        self.put(f"{following} = add nsw i64 {count}, 1")
        self.put(f"{again} = icmp slt i64 {following}, {length}")
        self.put(f"br i1 {again}, label %loop{tag}, label %after{tag}")
        self.level.label(f"after{tag}")

    def poll(self, count: str, tag: int) -> None:
        """Look for signals now and then, so that a long scan can be interrupted."""
        low, due = self.fresh(), self.fresh("c")
        self.put(f"{low} = and i64 {count}, {POLL_EVERY - 1}")
        self.put(f"{due} = icmp eq i64 {low}, {POLL_EVERY - 1}")
        self.put(f"br i1 {due}, label %poll{tag}, label %body{tag}")
        self.level.label(f"poll{tag}")
        self.put("call void @graphc_poll(ptr %status)")
        self.stop_on_failure()
        self.put(f"br label %body{tag}")
        self.level.label(f"body{tag}")

    def repeat(self, loop: While) -> None:
        self._count += 1
        tag = self._count
        before = self.level.block
        count, following = f"%n{tag}", f"%m{tag}"
        self.put(f"br label %while{tag}")
        self.level.label(f"while{tag}")
        self.put(f"{count} = phi i64 [0, %{before}], [{following}, %latch{tag}]")
        self.poll(count, tag)
        self.statements(loop.test)
        byte, holds = self.fresh(), self.fresh("c")
        self.put(f"{byte} = load i8, ptr {self.address(loop.condition)}, align 1")
        self.put(f"{holds} = icmp ne i8 {byte}, 0")
        self.put(f"br i1 {holds}, label %do{tag}, label %after{tag}")
        self.level.label(f"do{tag}")
        self.statements(loop.body)
        self.put(f"br label %latch{tag}")
        self.level.label(f"latch{tag}")
        self.put(f"{following} = add nsw i64 {count}, 1")
        self.put(f"br label %while{tag}")
        self.level.label(f"after{tag}")

    def choose(self, choice: Switch) -> None:
        self._count += 1
        tag = self._count
        last = len(choice.branches) - 1
        index, below = self.fresh(), self.fresh("c")
        self.put(f"{index} = load i64, ptr {self.address(choice.index)}, align 8")
        self.put(f"{below} = icmp slt i64 {index}, 0")
        chosen = self.fresh()
        self.put(f"{chosen} = select i1 {below}, i64 0, i64 {index}")
        cases = " ".join(f"i64 {i}, label %branch{tag}.{i}" for i in range(last))
        self.put(f"switch i64 {chosen}, label %branch{tag}.{last} [{cases}]")
        for i, branch in enumerate(choice.branches):
            self.level.label(f"branch{tag}.{i}")
            self.statements(branch)
            self.put(f"br label %joined{tag}")
        self.level.label(f"joined{tag}")

    def call(self, call: Call) -> None:
        callee = call.procedure
        buffers = self.allocate(len(call.operands))
        for position, operand in enumerate(call.operands):
            self.set_word(buffers, position, f"ptr {self.address(operand)}")
        extents = self.allocate(len(callee.sizes))
        for position, name in enumerate(callee.sizes):
            self.set_word(extents, position, f"i64 {self.dim(call.sizes[name])}")
        workspace = "%workspace"
        if call.scratch is not None:
            workspace = self.moved("%workspace", call.scratch.offset)
        self.go_on_after(
            f"@{callee.name}(ptr {buffers}, ptr {extents}, ptr null, "
            f"ptr {workspace}, ptr %status)"
        )


class _BlocksPrinter(_ProcedurePrinter):
    """Writes the function that runs some of the blocks, of a procedure whose words it is given."""

    def __init__(self, procedure: _ProcedurePrinter, blocks: Blocks) -> None:
        super().__init__(
            *(procedure.procedure, procedure.names, 1, procedure.slots, procedure.constants)
        )
        self.stated = blocks
        self.stride_base = procedure.stride_base
        self.outer = tuple(procedure.level.symbols)

    def function(self, name: str) -> str:
        """A function with the signature of a kernel; its frame are the words of the procedure."""
        self.name = name
        given = ["ptr %buffers", "ptr %extents", "ptr %strides", "ptr %workspace", "ptr %status"]
        given += [f"i64 %outer{number}" for number in range(len(self.outer))]
        head = []
        for position, word in enumerate(given):
            kind, value = word.split()
            head.append(f"  %at{position} = getelementptr i64, ptr %context, i64 {position}")
            head.append(f"  {value} = load {kind}, ptr %at{position}, align 8")
        self.level.symbols |= {
            symbol: f"%outer{number}" for number, symbol in enumerate(self.outer)
        }
        self.put("br label %block")
        self.level.label("block")
        self.put("%number = phi i64 [%begin, %entry], [%following, %done]")
        self.level.symbols[BLOCK] = "%number"
        self.run(self.stated)
        tail = [
            "  br label %done",
            "done:",
            "  %following = add nsw i64 %number, 1",
            "  %again = icmp slt i64 %following, %end",
            "  br i1 %again, label %block, label %finish",
            "finish:",
            "  ret void",
            "}",
        ]
        define = (
            f"define internal void @{name}(ptr %context, i64 %begin, i64 %end, i64 %worker) "
            "nounwind {"
        )
        lines = [define, "entry:", *head, *self.allocations, *self.level.lines, *tail]
        return "\n".join([*self.globals, *lines])

    def run(self, blocks: Blocks) -> None:
        """The launches of one block, once or in every step of a loop."""
        if blocks.steps is not None:
            steps, body = blocks.steps, list[Statement](blocks.launches)
            self.loop(Loop(steps.variable, steps.length, steps.reverse, body))
            return
        for launch in blocks.launches:
            self.launch(launch)

    def poll(self, count: str, tag: int) -> None:
        """Only the thread that called looks for signals; the others learn it from the status."""
        low, due, caller = self.fresh(), self.fresh("c"), self.fresh("c")
        self.put(f"{low} = and i64 {count}, {POLL_EVERY - 1}")
        self.put(f"{due} = icmp eq i64 {low}, {POLL_EVERY - 1}")
        self.put(f"br i1 {due}, label %poll{tag}, label %body{tag}")
        self.level.label(f"poll{tag}")
        self.put(f"{caller} = icmp eq i64 %worker, 0")
        self.put(f"br i1 {caller}, label %ask{tag}, label %asked{tag}")
        self.level.label(f"ask{tag}")
        self.put("call void @graphc_poll(ptr %status)")
        self.put(f"br label %asked{tag}")
        self.level.label(f"asked{tag}")
        self.stop_on_failure()
        self.put(f"br label %body{tag}")
        self.level.label(f"body{tag}")

    def address(self, operand: Operand) -> str:
        storage = operand.storage
        if storage.kind != "held":
            return super().address(operand)
        held = self.stated.scratch
        assert held is not None
        size = aligned(held.bytes)
        mine = held.offset + Dim.symbol("_worker") * size + storage.offset
        if storage.parts > 1:  # kernels count from the first block
            mine = mine - Dim.symbol(BLOCK) * (storage.bytes // storage.parts)
        self.level.symbols["_worker"] = "%worker"
        return self.moved("%workspace", mine)

    def launch(self, launch: Launch) -> None:
        kernel = launch.kernel
        frame, name = self.frame(launch), self.names[id(kernel)]
        begin, end = "0", "1"
        if not isinstance(kernel.nest, Contract):
            block = Dim.symbol(BLOCK)
            begin = self.dim(block * launch.tasks)
            end = self.dim((block + 1) * launch.tasks)
        self.put(f"call void @{name}(ptr {frame}, i64 {begin}, i64 {end}, i64 %worker)")
        if can_stop(kernel):
            self.stop_on_failure()


# The code of the status record, or that of a cancelled call.
_STATE = f"""
define internal i64 @state(ptr %status) alwaysinline nounwind {{
entry:
  %code = load atomic i64, ptr %status monotonic, align 8
  %at = getelementptr i64, ptr %status, i64 {Status.CANCEL.value}
  %cancel = load atomic i64, ptr %at monotonic, align 8
  %on = icmp ne i64 %cancel, 0
  %cancelled = select i1 %on, i64 {Code.CANCELLED.value}, i64 0
  %none = icmp eq i64 %code, 0
  %result = select i1 %none, i64 %cancelled, i64 %code
  ret i64 %result
}}
"""
