"""From a closed graph to a Function on this machine: rewrite, lower, compile, wrap.

The strided variant of a program is compiled the first time an argument asks for it. Errors that
native code reports become Python errors here, with the user's line. What lowers and prints is
imported when a plan must be made: a hit in the cache does without.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from graphc.codegen import tactics
from graphc.codegen.extents import Constraint, Layout, Wording, canonical, derive, layout
from graphc.codegen.status import Code, Status
from graphc.codegen.tactics import Tactics
from graphc.dims import Extent
from graphc.errors import MESSAGE_LINES, ExtentError, shortened
from graphc.graph import Graph
from graphc.lowering import Elementwise, Nest
from graphc.origin import location
from graphc.request import Request
from graphc.runtime import lapack
from graphc.runtime.callable import Implementation
from graphc.runtime.callspec import CallSpec, Input, Output
from graphc.runtime.diagnosis import (
    NanOrigin,
    Verification,
    compared,
    explain_nan,
    made_arrays,
)
from graphc.runtime.engine import engine
from graphc.runtime.leaf import Function, make_function
from graphc.runtime.miss import missed, remember
from graphc.runtime.native import Module, NativeProgram, Recorder, link
from graphc.runtime.orders import MOST_ORDERS, Orders, orders_of, reordered
from graphc.runtime.plan import Plan, are_sources_unchanged, plan_facts, plan_key
from graphc.runtime.threads import default_workers
from graphc.tree import flatten

if TYPE_CHECKING:
    from graphc.codegen.program import Checked, Program


class CompiledFunction(Function):
    """A Function compiled for this machine. See `Compiled` for what it can tell about itself."""

    __slots__ = ()


class Compiled(Implementation):
    """What stands behind a compiled Function: graph, plan, code, and the story of compiling it.

    When the plan came from the cache, `program` and what it is made from are computed again only if
    somebody asks.
    """

    plan_story = "made anew, without the cache"

    def __init__(self, request: Request) -> None:
        if request.options.library == "lapack":
            lapack.require()
        self.request = request
        self.recorder = Recorder()
        self.workers = request.options.threads or default_workers()
        with self.recorder.timed("close"):
            self.written, self.dim_names = canonical(request.graph)
        plan = self._variant_plan([])
        self._arena = plan.arena
        self.layout = self._layout(plan.arena, plan.work)
        self._modules = plan.modules
        self.native = self._linked(plan)
        self._variants: list[NativeProgram] = [self.native]
        self._by_orders: dict[Orders, Any] = {}
        super().__init__(self._spec())

    @property
    def wording(self) -> Wording:
        """How messages call arguments and dimensions."""
        return Wording(self.request.names, self.dim_names)

    def _layout(self, arena: Extent, work: Extent) -> Layout:
        return layout(self.written, arena, work, self.wording)

    def _linked(self, plan: Plan) -> NativeProgram:
        return link(list(plan.modules), plan.constants, self.request.options.cache, self.recorder)

    def _variant_plan(self, strided: Sequence[bool]) -> Plan:
        """The plan of a variant: from the cache, or made and kept there."""
        options = self.request.options
        variant = "".join("s" if flag else "c" for flag in strided)
        decided_by = self.written, options, self.request.donated, self.workers, variant
        key = plan_key(*decided_by)
        kept = options.cache and key and _is_ours(self.written)
        store = engine().cache if kept else None
        if options.cache and not key:
            self.plan_story = "made anew: graphc's files changed after this process loaded them"
        elif options.cache and not kept:
            self.plan_story = "made anew: the graph has an op from outside graphc"
        with self.recorder.timed("plan lookup"):
            data = store.get(key) if store is not None else None
            if data is not None:
                try:
                    plan = Plan.from_bytes(data)
                    self.plan_story = "from the cache"
                    return plan
                except ValueError:
                    pass  # damaged or of another version: made anew and replaced
            facts = plan_facts(*decided_by)
            if store is not None:
                self.plan_story = f"made anew: {missed(store, key, facts, self.request.name)}"
        plan = self._made(strided)
        if store is not None and are_sources_unchanged():
            with self.recorder.timed("plan store"):
                store.put(key, plan.to_bytes())
                remember(store, facts)
        return plan

    def _made(self, strided: Sequence[bool]) -> Plan:
        from graphc.codegen.program import total_work
        from graphc.runtime.printing import modules

        program = self._lowered(strided)
        if not strided:
            self.__dict__["program"] = program
        found = self._layout(program.main.arena, total_work(program.main.body))
        with self.recorder.timed("print"):
            made, constants = modules(program, found, self.workers, self.request.options.opt_level)
        sizes = program.main.arena, total_work(program.main.body)
        return Plan(tuple(made), constants, *sizes, len(self.firings))

    def _lowered(self, strided: Sequence[bool]) -> Program:
        from graphc.codegen.loops import verify
        from graphc.codegen.lower import lower
        from graphc.runtime.printing import product_scratch

        rewritten = self.rewritten
        with self.recorder.timed("lower"):
            program = lower(
                rewritten,
                self.workers,
                strided,
                self.request.donated,
                product_scratch,
                tactics=_native_tactics(self.request),
            )
            if self.request.options.debug:
                for kernel in program.kernels():
                    verify(kernel)
        return program

    @functools.cached_property
    def _rewriting(self) -> tuple[Graph, Sequence[Any]]:
        with self.recorder.timed("rewrite"):
            return _rewritten(self.written, self.request)

    @property
    def rewritten(self) -> Graph:
        """The graph after rewriting, as it is lowered."""
        return self._rewriting[0]

    @property
    def firings(self) -> Sequence[Any]:
        """Every firing of a rewrite rule, in order."""
        return self._rewriting[1]

    @functools.cached_property
    def program(self) -> Program:
        """The program, with its kernels and what they compute."""
        from graphc.codegen.program import total_work
        from graphc.runtime.printing import modules

        program = self._lowered([])
        found = self._layout(program.main.arena, total_work(program.main.body))
        modules(program, found, self.workers, self.request.options.opt_level)  # names the kernels
        return program

    def _spec(self) -> CallSpec:
        request, found = self.request, self.layout
        slots = [0] * len(found.slots.program_names)

        def sized(axis: Any) -> int:
            """The slot that holds a size, appended if it is a constant."""
            if isinstance(axis, int):
                slots.append(axis)
                return len(slots) - 1
            return axis[1]

        workspace, work = sized(found.workspace), sized(found.work)
        inputs = tuple(
            Input(name, type_.dtype, axes, where)  # type: ignore[union-attr, arg-type]
            for name, type_, axes, where in zip(
                request.names, self.written.parameters, found.inputs, request.origins, strict=True
            )
        )
        outputs = tuple(
            Output(type_.dtype, axes)  # type: ignore[union-attr, arg-type]
            for type_, axes in zip(self.written.types, found.outputs, strict=True)
        )
        names = found.slots.program_names
        return CallSpec(
            inputs,
            outputs,
            self.native.main,
            name=request.name,
            slots=tuple(slots),
            constants=len(slots) - len(names),
            extents=self.native.extents,
            workspace_slot=workspace,
            work_slot=work,
            donated=request.donated,
            packing=_packing(request),
            slot_names={i: self.dim_names.get(name, name) for i, name in enumerate(names)},
        )

    # -- what the call asks ------------------------------------------------------------------------

    def strided_program(self) -> int:
        ranks = [len(type_.shape) for type_ in self.written.parameters]  # type: ignore[union-attr]
        strided = [rank > 0 and i not in self.request.donated for i, rank in enumerate(ranks)]
        plan = self._variant_plan(strided)
        if plan.arena != self._arena:
            return 0  # the descriptor knows one size of arena: such arguments are copied instead
        native = self._linked(plan)
        self._variants.append(native)
        return native.main

    def run_in_order(self, arrays: list[np.ndarray], targets: Sequence[np.ndarray]) -> bool:
        orders = None if self.request.donated else orders_of(arrays)
        if orders is None:
            return False
        with self._strided_lock:
            if orders not in self._by_orders and len(self._by_orders) >= MOST_ORDERS:
                return False
            if orders not in self._by_orders:
                self._by_orders[orders] = compile_cpu(reordered(self.request, orders))
        pairs = zip(arrays, orders, strict=True)
        given = [x if order is None else x.transpose(order) for x, order in pairs]
        self._by_orders[orders](*given, out=tuple(targets) if len(targets) > 1 else targets[0])
        return True

    def keywords(self) -> list[str]:
        return super().keywords() if self._arguments_held_in is None else []

    def arguments(self, args: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        held_in = self._arguments_held_in
        if held_in is None:
            return super().arguments(args, named)
        if named:
            raise TypeError(f"{self.spec.name}() takes containers by position, not by keyword")
        structure = self.request.input_structure
        leaves, given = flatten(held_in(args))
        if given != structure:
            difference = structure.difference(given)
            raise TypeError(f"{self.spec.name}() takes {structure}: {difference}")
        return leaves

    @functools.cached_property
    def _arguments_held_in(self) -> type | None:
        """The container of all arguments, of which some are containers; None if none is."""
        structure = self.request.input_structure
        if all(child.kind == "leaf" for child in structure.children):
            return None
        return type(structure.unflatten([0] * structure.leaf_count))

    def raise_status(self, words: tuple[int, ...]) -> NoReturn:
        code, number = words[Status.CODE], words[Status.NODE]
        if code == Code.CONSTRAINT_VIOLATED:
            raise self._violated(
                self.layout.constraints[number], words[Status.INDEX], words[Status.EXTENT]
            )
        checks = self.program.checks
        if code in CHECKED and number < len(checks):
            say = self.wording.extent
            raise_checked(self.spec.name, checks[number], code, words[Status.INDEX], say)
        super().raise_status(words)

    def _violated(self, constraint: Constraint, got: int, wanted: int) -> Exception:
        lines = [constraint.text(got, wanted)]
        if constraint.position is not None:
            entry = self.spec.inputs[constraint.position]
            lines[0] = f"argument {constraint.position + 1}, {entry.name}: {lines[0]}"
            lines += [f"{entry.name} built at {entry.origin}"] if entry.origin else []
        where = location(constraint.node.origin) if constraint.node is not None else ""
        lines += [f"demanded by an expression built at {where}"] if where else []
        if constraint.error is ValueError:
            lines.append("pass arrays whose extents fit")
        kind = ExtentError if constraint.error is ValueError else constraint.error
        return kind("\n  ".join([f"{self.spec.name}() {lines[0]}", *lines[1:]]))

    def reduce(self) -> tuple[Any, ...]:
        return (compile_cpu, (self.request,))

    # -- what a user may look at -------------------------------------------------------------------

    @property
    def graph(self) -> Graph:
        """The graph as it was written, closed over its inputs."""
        return self.written

    @property
    def kernels(self) -> list[Any]:
        """The kernels of the program, in order."""
        return self.program.kernels()

    @functools.cached_property
    def texts(self) -> dict[str, str]:
        """The LLVM IR of every module that was linked, by name."""
        return {module.name: module.source.text for module in self._modules}

    @property
    def llvm_ir(self) -> str:
        """The LLVM IR of every kernel, then of the program."""
        return "\n".join(f"; {name}\n{text}" for name, text in self.texts.items())

    @functools.cached_property
    def assembly(self) -> str:
        """The assembly of every kernel, then of the program, at the level each was compiled at."""
        sources = {module.name: module.source for module in self._modules}.values()
        return "\n".join(
            engine().assembly(source.text, opt_level=source.opt_level, passes=source.passes)
            for source in sources
        )

    @property
    def address(self) -> int:
        """The address of the program, with the signature of decision 3."""
        return self.native.main

    @property
    def signature(self) -> str:
        """The C signature at `address`."""
        return (
            "int64_t program(void **buffers, int64_t *extents, int64_t *strides, "
            "void *workspace, int64_t status[8])"
        )

    @property
    def cuda_source(self) -> str:
        """The CUDA C++ of every kernel, as `gx.emit` prints it: nothing runs on a GPU."""
        return emit_cuda(self.request).text

    def explain_nan(self, *args: Any, **named: Any) -> NanOrigin | None:
        """Where a NaN in the computation for these arguments comes from, or else an infinity: the
        first operation that makes one of numbers, with the line that wrote it. None if all is
        finite. The graph is evaluated as it runs, after rewriting, so this is slow.
        """
        return explain_nan(self, self._arrays(args, named))

    def verify(self, *args: Any, **named: Any) -> Verification:
        """Compare the results for these arguments, or for random ones, with those of the graph as
        written. If they differ by more than rounding can, the answer is false, and names the
        rewrite rule or the kernel to blame. Slow.
        """
        arrays = self._arrays(args, named) if args or named else made_arrays(self.written)
        return compared(self, arrays)

    def _arrays(self, args: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        """The arguments of a call as arrays; errors are those of a call."""
        values = self.arguments(args, named)
        arrays = [self._convert(position, value) for position, value in enumerate(values)]
        self._bind(arrays)
        return arrays

    def report(self) -> Any:
        """Seconds of each phase, kernels with the nodes and lines that they compute, and why they
        were fused.
        """
        from graphc.codegen.report import Report

        # First the times: after a hit in the cache, looking at the program is what makes it.
        seconds = self.recorder.phases()
        return Report.of(
            self.program, seconds, self.firings, self.plan_story, functools.partial(_growth, self)
        )


# The failures that belong to a node.
CHECKED = (
    *(Code.INDEX_OUT_OF_RANGE, Code.CHECK_FAILED, Code.DIVISION_BY_ZERO),
    Code.UNFIT_MATRIX,
)


def raise_checked(
    name: str, checked: Checked, code: int, index: int, say: Callable[[Extent], str] = str
) -> NoReturn:
    """The error of a check that failed inside a kernel; `say` writes an extent for the user."""
    node = checked.node
    where = location(node.origin)
    tail = f"\n  {node.op.name} built at {where}" if where else ""
    form = node.op.lowering
    if isinstance(form, Elementwise) and form.demand is not None:
        raise form.demand.error(f"{name}() {form.demand.message}{tail}")
    if isinstance(form, Nest) and code == Code.UNFIT_MATRIX:
        raise np.linalg.LinAlgError(f"{name}() {form.refusal}{tail}")
    if code == Code.CHECK_FAILED:
        message = shortened(node.attrs["message"], MESSAGE_LINES - 1)
        raise ValueError(f"{name}() check failed: {message}{tail}")
    axis, extent = checked.axis, node.args[0].shape[checked.axis]
    what = "index" if checked.window == 1 else f"a window of {say(checked.window)} at index"
    raise IndexError(
        f"{name}() {what} {index} is out of range for axis {axis} of extent {say(extent)}{tail}\n"
        "  positions count from 0, or from -1 backwards from the end"
    )


def _is_ours(graph: Graph) -> bool:
    """Whether every op is graphc's own: the code of a user's op may change under the same name."""
    for op in {node.op for node in graph.alike}:
        parts = vars(op.lowering).values()
        homes = [getattr(part, "__module__", "graphc.") for part in parts if callable(part)]
        if any(not str(home).startswith("graphc.") for home in homes):
            return False
    return True


def _rewritten(graph: Graph, request: Request) -> tuple[Graph, Sequence[Any]]:
    from graphc.codegen.lower import expand
    from graphc.rewrite import rewrite

    math, exclude = request.options.math, request.options.exclude
    outputs, order, leaves = graph.unreplaced
    result = rewrite(outputs, math, exclude, order, leaves)
    return expand(Graph(graph.parameters, result.outputs)), result.firings


def _growth(compiled: Compiled) -> Any:
    """How much larger derivatives made the graph that was compiled."""
    from graphc.rewrite.size import growth

    options = compiled.request.options
    return growth(compiled.written.outputs, options.math, options.exclude)


def _packing(request: Request) -> Any:
    structure = request.output_structure
    if structure.kind == "leaf":
        return "single"
    if all(child.kind == "leaf" for child in structure.children) and structure.kind in (
        "tuple",
        "list",
    ):
        return structure.kind
    return structure.unflatten


def compile_cpu(request: Request) -> Any:
    """The Function of a request, as native code."""
    return make_function(Compiled(request), CompiledFunction)


def compile_interpreted(request: Request) -> Any:
    """The Function of a request, run by the kernel interpreter."""
    return make_function(Interpreted(request), CompiledFunction, plain=True)


class Interpreted(Compiled):
    """What stands behind a Function that the kernel interpreter runs: slow, and the reference for
    backends. Arguments, results and errors are those of native code.
    """

    def __init__(self, request: Request) -> None:
        from graphc.codegen.loops import verify

        self.request = request
        self.recorder = Recorder()
        self.workers = 1
        self.written, self.dim_names = canonical(request.graph)
        self.layout = self._layout(0, 0)
        self._modules: tuple[Module, ...] = ()
        self.native = NativeProgram(0, 0, {}, ())
        for kernel in self.program.kernels():
            verify(kernel)
        Implementation.__init__(self, self._spec())

    @functools.cached_property
    def program(self) -> Program:
        """The program, with its kernels and what they compute."""
        from graphc.codegen.lower import lower

        return lower(self.rewritten, self.workers, tactics=_tactics(tactics.CPU, self.request))

    def _derive(self, slots: Any) -> None:
        found = self.layout.slots
        values, failure = derive(found, slots[: len(found.free)])
        if failure is not None:
            number, got, wanted = failure
            raise self._violated(self.layout.constraints[number], got, wanted)
        slots[: len(values)] = values

    def _run(self, arrays: list[np.ndarray], targets: Sequence[np.ndarray], slots: Any) -> None:
        from graphc.codegen.interpret import run_program

        names = self.layout.slots.program_names
        sizes = dict(zip(names, slots, strict=False))
        contiguous = [np.ascontiguousarray(a).reshape(a.shape) for a in arrays]
        results, failures = run_program(self.program, contiguous, sizes)
        if failures:
            first = failures[0]
            checked = self.program.checks[first.node]
            raise_checked(self.spec.name, checked, first.code, first.index, self.wording.extent)
        for target, result in zip(targets, results, strict=True):
            np.copyto(target, result)

    def reduce(self) -> tuple[Any, ...]:
        return (compile_interpreted, (self.request,))


def _tactics(target: Tactics, request: Request) -> Tactics:
    """What kernels of a CPU target are good at, as this request wants them on this machine."""
    from graphc.codegen.machine import Machine

    host = Machine.host()
    registers = host.vector_registers if target.straight else 0
    return replace(target, fast=_is_fast(request), tables=host.has_tables, straight=registers)


def _native_tactics(request: Request) -> Tactics:
    """The same for native code of this process, which may call a library's."""
    from graphc.codegen.gemm.microkernel import Tile
    from graphc.codegen.machine import Machine

    library = "lapack" if request.options.library == "lapack" else ""
    host = Machine.host()
    tile = Tile.of("float32", host)
    native = replace(
        tactics.NATIVE,
        library=library,
        panel_bytes=tile.row_bytes,
        own_cache_bytes=host.l2,
        stripe_rows=2 * tile.rows,
        sums_of_part=4 if host.has_masks else 16,
        shared_cache_bytes=host.l3,
    )
    return _tactics(native, request)


def _is_fast(request: Request) -> bool:
    """Whether accuracy may be lost, by a stated amount."""
    return request.options.math == "fast"


def emit_cuda(request: Request) -> Any:
    """The CUDA C++ of a request: text, kernels, launch plan."""
    from graphc.codegen.cuda.program import SCRATCH_BLOCKS, cuda_source, lower_for_cuda

    graph, dims = canonical(request.graph)
    rewritten, _ = _rewritten(graph, request)
    program = lower_for_cuda(rewritten, SCRATCH_BLOCKS, fast=_is_fast(request))
    cores, names = request.options.tensor_cores, request.names
    source = cuda_source(program, request.name, SCRATCH_BLOCKS, names, dims, cores)
    source.describe = _described
    return source


def _described(program: Any, arch: str, sizes: Mapping[str, int]) -> Any:
    from graphc.runtime.cuda.report import described

    return described(program, arch, sizes)


def emit_c(request: Request, strided: Sequence[bool] = ()) -> Any:
    """The C of a request: the text of a `.c` file and of its header. `strided` tells which inputs
    have strides of their own.
    """
    from graphc.codegen.c.interface import Signature, program_name
    from graphc.codegen.c.program import c_source
    from graphc.codegen.c.program import product_scratch as c_scratch
    from graphc.codegen.lower import lower
    from graphc.codegen.machine import Machine

    graph, dims = canonical(request.graph)
    rewritten, _ = _rewritten(graph, request)
    program = lower(
        rewritten, 1, strided, request.donated, c_scratch, tactics=_tactics(tactics.CPU, request)
    )
    found = layout(graph, program.main.arena, 0, Wording(request.names, dims))
    name, names = program_name(request.name), tuple(request.names)
    signature = Signature(name, names, dims, found, request.donated)
    return c_source(program, signature, Machine.host().vector_bytes)


def emit_llvm(request: Request) -> str:
    """The LLVM IR of a request's kernels for this machine."""
    from graphc.codegen.lower import lower
    from graphc.codegen.machine import Machine
    from graphc.runtime.printing import kernel_text

    graph, _ = canonical(request.graph)
    rewritten, _ = _rewritten(graph, request)
    kernels = lower(rewritten, 1, tactics=_native_tactics(request)).kernels()
    return "\n".join(f"; {k.title}\n{kernel_text(k, Machine.host()).whole}" for k in kernels)
