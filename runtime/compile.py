"""From a closed graph to a Function on this machine: rewrite, lower, compile, wrap.

The strided variant of a program is compiled the first time an argument asks for it. Errors that
native code reports become Python errors here, with the user's line.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from graphc.codegen.extents import Constraint, canonical, layout
from graphc.codegen.loops import verify
from graphc.codegen.lower import expand, lower
from graphc.codegen.program import Launch, Loop, Program, Statement
from graphc.dims import Extent
from graphc.graph import Graph
from graphc.node import Node
from graphc.origin import location
from graphc.request import Request
from graphc.runtime.callable import CallSpec, Function, Implementation, Input, Output, make_function
from graphc.runtime.engine import engine
from graphc.runtime.entry import Code, Status
from graphc.runtime.native import NativeProgram, Recorder, link, modules, product_scratch
from graphc.runtime.plan import Plan, plan_key
from graphc.runtime.threads import default_workers
from graphc.tree import flatten


class CompiledFunction(Function):
    """A Function compiled for this machine. See `Compiled` for what it can tell about itself."""

    __slots__ = ()


class Compiled(Implementation):
    """What stands behind a compiled Function: graph, plan, code, and the story of compiling it.

    When the plan came from the cache, `program` and what it is made from are computed again only if
    somebody asks.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.recorder = Recorder()
        self.workers = request.options.threads or default_workers()
        with self.recorder.timed("close"):
            self.written, self.dim_names = canonical(request.graph)
        plan = self._variant_plan([])
        self._arena = plan.arena
        self.layout = layout(self.written, plan.arena, plan.work)
        self.texts = {module.name: module.text for module in plan.modules}
        self.native = self._linked(plan)
        self._variants: list[NativeProgram] = [self.native]
        super().__init__(self._spec())

    def _linked(self, plan: Plan) -> NativeProgram:
        return link(list(plan.modules), plan.constants, self.request.options.cache, self.recorder)

    def _variant_plan(self, strided: Sequence[bool]) -> Plan:
        """The plan of a variant: from the cache, or made and kept there."""
        options = self.request.options
        variant = "".join("s" if flag else "c" for flag in strided)
        key = plan_key(self.written, options, self.request.donated, self.workers, variant)
        store = engine().cache if options.cache else None
        with self.recorder.timed("plan lookup"):
            data = store.get(key) if store is not None else None
            if data is not None:
                try:
                    return Plan.from_bytes(data)
                except ValueError:
                    pass  # damaged or of another version: made anew and replaced
        plan = self._made(strided)
        if store is not None:
            with self.recorder.timed("plan store"):
                store.put(key, plan.to_bytes())
        return plan

    def _made(self, strided: Sequence[bool]) -> Plan:
        program = self._lowered(strided)
        if not strided:
            self.__dict__["program"] = program
        found = layout(self.written, program.main.arena, total_work(program.main.body))
        with self.recorder.timed("print"):
            made, constants = modules(program, found, self.workers, self.request.options.opt_level)
        sizes = program.main.arena, total_work(program.main.body)
        return Plan(tuple(made), constants, *sizes, len(self.firings))

    def _lowered(self, strided: Sequence[bool]) -> Program:
        rewritten = self.rewritten
        with self.recorder.timed("lower"):
            program = lower(
                rewritten,
                self.workers,
                strided,
                self.request.donated,
                product_scratch(self.workers),
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
        program = self._lowered([])
        found = layout(self.written, program.main.arena, total_work(program.main.body))
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
            Output(node.dtype, axes)  # type: ignore[arg-type]
            for node, axes in zip(self.written.outputs, found.outputs, strict=True)
        )
        names = found.slots.program_names
        return CallSpec(
            inputs,
            outputs,
            self.native.main,
            name=request.name,
            slots=tuple(slots),
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

    def arguments(self, args: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        structure = self.request.input_structure
        if all(child.kind == "leaf" for child in structure.children):
            return super().arguments(args, named)
        if named:
            raise TypeError(f"{self.spec.name}() takes containers by position, not by keyword")
        leaves, given = flatten(structure.unflatten([0] * structure.leaf_count).__class__(args))
        if given != structure:
            difference = structure.difference(given)
            raise TypeError(f"{self.spec.name}() takes {structure}: {difference}")
        return leaves

    def raise_status(self, words: tuple[int, ...]) -> NoReturn:
        code, number = words[Status.CODE], words[Status.NODE]
        if code == Code.CONSTRAINT_VIOLATED:
            constraint = self.layout.constraints[number]
            raise ValueError(self._violated(constraint, words))
        checks = self.program.checks
        if code in (Code.INDEX_OUT_OF_RANGE, Code.CHECK_FAILED) and number < len(checks):
            raise_checked(self.spec.name, checks[number], code, words[Status.INDEX])
        super().raise_status(words)

    def _violated(self, constraint: Constraint, words: tuple[int, ...]) -> str:
        what = constraint.what
        for canonical_name, name in self.dim_names.items():
            what = what.replace(canonical_name, name)
        where = location(constraint.node.origin) if constraint.node is not None else ""
        got, wanted = words[Status.INDEX], words[Status.EXTENT]
        return (
            f"{self.spec.name}(): extents do not fit: {what}; got {got} against {wanted}"
            + (f"\nnode: {constraint.node.op.name}, built at {where}" if where else "")  # type: ignore[union-attr]
        )

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

    @property
    def llvm_ir(self) -> str:
        """The LLVM IR of every kernel, then of the program."""
        return "\n".join(f"; {name}\n{text}" for name, text in self.texts.items())

    @functools.cached_property
    def assembly(self) -> str:
        """The assembly of every kernel, then of the program."""
        return "\n".join(engine().assembly(text) for text in self.texts.values())

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

    def report(self) -> Any:
        """Seconds of each phase, kernels with the nodes and lines that they compute, and why they
        were fused.
        """
        from graphc.codegen.report import Report

        return Report.of(self.program, self.recorder.phases(), self.firings)


def raise_checked(name: str, node: Node, code: int, index: int) -> NoReturn:
    """The error of a check that failed inside a kernel."""
    where = location(node.origin)
    tail = f"\nnode: {node.op.name}, {node.type}" + (f", built at {where}" if where else "")
    if code == Code.CHECK_FAILED:
        raise ValueError(f"{name}(): check failed: {node.attrs['message']}{tail}")
    axis = node.attrs["axis"]
    extent = node.args[0].shape[axis] if node.op.name == "take" else node.shape[axis]
    raise IndexError(
        f"{name}(): index {index} is out of range for axis {axis} of extent {extent}{tail}"
    )


def _rewritten(graph: Graph, request: Request) -> tuple[Graph, Sequence[Any]]:
    from graphc.rewrite import rewrite

    result = rewrite(graph.outputs, math=request.options.math, exclude=request.options.exclude)
    return expand(Graph(graph.parameters, result.outputs)), result.firings


def total_work(body: Sequence[Statement]) -> Extent:
    """The element operations of statements, loops included."""
    total: Extent = 0
    for statement in body:
        if isinstance(statement, Launch):
            total = total + statement.work
        elif isinstance(statement, Loop):
            total = total + statement.length * total_work(statement.body)
        else:
            total = total + total_work(statement.procedure.body)
    return total


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
    return Interpreted(request)


class Interpreted:
    """A Function that the kernel interpreter runs: slow, and the reference for backends."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.written, self.dim_names = canonical(request.graph)
        self.rewritten, self.firings = _rewritten(self.written, request)
        self.program = lower(self.rewritten, 1)
        for kernel in self.program.kernels():
            verify(kernel)

    def __call__(self, *args: Any) -> Any:
        from graphc.codegen.interpret import run_program
        from graphc.evaluator import bind_extents, fitting

        sizes: dict[str, int] = {}
        leaves, _ = flatten(args)
        arrays = []
        for name, type_, value in zip(
            self.request.names, self.written.parameters, leaves, strict=True
        ):
            array = fitting(value, type_, name)
            bind_extents(type_, array.shape, sizes, name)
            arrays.append(np.ascontiguousarray(array).reshape(array.shape))
        results, failures = run_program(self.program, arrays, sizes)
        if failures:
            failure = failures[0]
            raise_checked(
                self.request.name, self.program.checks[failure.node], failure.code, failure.index
            )
        return self.request.output_structure.unflatten(results)

    def __reduce__(self) -> Any:
        return (compile_interpreted, (self.request,))

    @property
    def graph(self) -> Graph:
        """The graph as it was written."""
        return self.written

    @property
    def kernels(self) -> list[Any]:
        """The kernels of the program, in order."""
        return self.program.kernels()


def emit_cuda(request: Request) -> Any:
    """The CUDA C++ of a request: text, kernels, launch plan."""
    from graphc.codegen.cuda import cuda_source

    graph, _ = canonical(request.graph)
    rewritten, _ = _rewritten(graph, request)
    return cuda_source(lower(rewritten, 1), name=request.name)


def emit_llvm(request: Request) -> str:
    """The LLVM IR of a request's kernels for this machine."""
    from graphc.codegen.machine import Machine
    from graphc.runtime.native import kernel_text

    graph, _ = canonical(request.graph)
    rewritten, _ = _rewritten(graph, request)
    kernels = lower(rewritten, 1).kernels()
    return "\n".join(f"; {k.title}\n{kernel_text(k, Machine.host())}" for k in kernels)
