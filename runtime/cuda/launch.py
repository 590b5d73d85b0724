"""How does a plan run on a device?  Its steps, put on the stream; as a CUDA graph once it comes
again.

Launches are put on the stream one after the other, and the host waits only where data decide what
comes next. A plan without such places that is run again on the same addresses and extents is
captured: from then on it is one call of the driver. In the graph launches that need not wait for
each other are branches, which the device may run at the same time (`branches`); before, when
the host puts them on the stream one by one, that takes longer than most of them run.
"""

from __future__ import annotations

import collections
import functools
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from graphc.codegen.cuda.plan import (
    CallStep,
    KernelStep,
    LoopStep,
    Place,
    Step,
    SwitchStep,
    WhileStep,
)
from graphc.codegen.cuda.product import Gemm, Product, gemm
from graphc.codegen.cuda.program import CudaProgram
from graphc.codegen.passes.beside import laid_out
from graphc.dims import evaluate
from graphc.errors import CompileError
from graphc.runtime.cuda.branches import dependencies, longest_chain
from graphc.runtime.cuda.compile import Code
from graphc.runtime.cuda.device import Device
from graphc.runtime.cuda.driver import CudaError, Handle, addresses
from graphc.runtime.cuda.frame import (
    MOST_NODES,
    STATUS_BYTES,
    Frame,
    Span,
    launches,
    rounds,
)
from graphc.runtime.cuda.library import Cublas

MOST_GRAPHS = 8  # that a program keeps


@dataclass
class Counts:
    """What one loaded program did: calls, launches put on the stream one by one, graphs made, and
    runs of graphs, and products that a library did (in a graph: those put into it). Of the last
    graph: its launches, those of them on the longest way through it, and its branches.
    """

    calls: int = 0
    launches: int = 0
    graphs: int = 0
    graph_runs: int = 0
    library_calls: int = 0
    graph_launches: int = 0
    longest_chain: int = 0
    branches: int = 0


@dataclass
class _Graphs:
    """Executable graphs by the keys of their frames, None for a frame seen once, oldest first."""

    found: collections.OrderedDict[Any, Handle | None] = field(
        default_factory=collections.OrderedDict
    )
    refusal: str = ""  # why no more are made


class LoadedProgram:
    """The kernels of a program in a device, and its plan. Use it while the device is in use."""

    def __init__(
        self, device: Device, program: CudaProgram, code: Code, library: Cublas | None = None
    ) -> None:
        """`library` does the products that it gains by."""
        self.device = device
        self._library = library
        self._stream: Handle | None = None  # where launches go, if not on the device's own
        self.program = program
        self.counts = Counts()
        self._module = device.driver.load(code.image)
        try:
            self._functions = self._loaded_functions()
        except BaseException:
            device.driver.unload(self._module)
            raise
        self._parameters = {
            kernel.name: [p.type for p in kernel.parameters] for kernel in program.kernels
        }
        self._graphs = _Graphs()
        steps = list(_all_steps(program.plan.steps))
        self.can_fail = any(isinstance(step, KernelStep) and step.can_fail for step in steps)
        self._may_capture = not any(isinstance(step, (WhileStep, SwitchStep)) for step in steps)
        unload = functools.partial(device.driver.unload, self._module)
        weakref.finalize(self, _let_go, device, unload, self._graphs.found).atexit = False

    def _loaded_functions(self) -> dict[str, Handle]:
        driver = self.device.driver
        found = {}
        for kernel in self.program.kernels:
            function = driver.function(self._module, kernel.name)
            self._check(
                kernel.name,
                ("threads in a block", kernel.block, self.device.threads),
                (
                    "threads in a block, with its registers",
                    kernel.block,
                    driver.function_attribute(function, "MAX_THREADS_PER_BLOCK"),
                ),
                (
                    "bytes of shared memory",
                    driver.function_attribute(function, "SHARED_SIZE_BYTES"),
                    self.device.shared_bytes,
                ),
            )
            found[kernel.name] = function
        return found

    def _check(self, kernel: str, *demands: tuple[str, int, int]) -> None:
        for what, wanted, there in demands:
            if wanted > there:
                raise CompileError(
                    f"the kernel {kernel} needs {wanted} {what}; {self.device.name} has {there}"
                )

    @property
    def graph_refusal(self) -> str:
        """Why repeated calls do not become CUDA graphs; empty if they do."""
        if not self._may_capture:
            return "data decide what is launched next"
        return self._graphs.refusal

    # -- a run -------------------------------------------------------------------------------------

    def run(self, frame: Frame) -> None:
        """Put everything on the stream; what fails leaves nothing behind that waits."""
        self.counts.calls += 1
        if self._library is not None:
            self._library.workspace(self.device.lane)  # nothing can be reserved inside of a graph
        graph = self._graph(frame)
        if graph is None:
            self._steps(self.program.plan.steps, frame)
            return
        self.counts.graph_runs += 1
        self.device.driver.run(graph, self.device.stream)

    def _graph(self, frame: Frame) -> Handle | None:
        """The graph for a frame, made when the frame comes for the second time."""
        if not self._may_capture or self._graphs.refusal:
            return None
        found, key = self._graphs.found, frame.key()
        if key not in found:
            self._remember(key)
            return None
        found.move_to_end(key)
        if found[key] is None:
            found[key] = self._captured(frame)
        return found[key]

    def _remember(self, key: Any) -> None:
        found = self._graphs.found
        found[key] = None
        if len(found) > MOST_GRAPHS:
            _, oldest = found.popitem(last=False)
            if oldest is not None:
                self.device.wait_for_all()  # it may be running
                self.device.driver.drop_executable(oldest)

    def _captured(self, frame: Frame) -> Handle | None:
        count = self.program.totals(frame.sizes).launches
        if not 1 < count <= MOST_NODES:
            self._graphs.refusal = f"a call is {count} launches; a graph takes 2 to {MOST_NODES}"
            return None
        driver = self.device.driver
        before = self.counts.launches
        try:
            with driver.captured(self.device.capture_streams[0]) as made:
                self._branches(frame)
            graph = driver.executable(made[0])
        except CudaError as error:
            if error.is_sticky:
                raise
            self._graphs.refusal = str(error)
            return None
        finally:
            self._stream = None
            self.counts.launches = before  # put into a graph, not on the stream
        self.counts.graphs += 1
        return graph

    def _branches(self, frame: Frame) -> None:
        """Put every launch on the first of the capture streams or one that begins and ends there.
        """
        driver, streams = self.device.driver, self.device.capture_streams
        found = list(launches(self.program.plan.steps, frame))
        needs = dependencies([*self._spans(step, inner)] for step, inner in found)
        slots = laid_out(needs, len(streams))
        events: dict[int, Handle] = {}
        used = 1 + max(slot.branch for slot in slots)
        try:
            if used > 1:
                events[-1] = driver.record(streams[0])
            for stream in streams[1:used]:
                driver.make_wait(stream, events[-1])
            for number, ((step, inner), slot) in enumerate(zip(found, slots, strict=True)):
                self._stream = streams[slot.branch]
                for other in slot.waits:
                    driver.make_wait(self._stream, events[other])
                self._launch(step, inner)
                if slot.is_awaited:
                    events[number] = driver.record(self._stream)
            for branch, stream in enumerate(streams[1:used]):
                events[-2 - branch] = driver.record(stream)
                driver.make_wait(streams[0], events[-2 - branch])
        finally:
            for event in events.values():
                driver.drop_event(event)
        self.counts.graph_launches = len(found)
        self.counts.longest_chain, self.counts.branches = longest_chain(needs), used

    def _spans(self, step: KernelStep, frame: Frame) -> Iterator[Span]:
        yield from frame.spans(step)
        if self._product(step, frame) is not None and self._library is not None:
            yield self._library.workspace(self.device.lane)

    # -- steps -------------------------------------------------------------------------------------

    def _steps(self, steps: Sequence[Step], frame: Frame) -> None:
        for step in steps:
            _HANDLERS[type(step)](self, step, frame)

    def _product(self, step: KernelStep, frame: Frame) -> Gemm | None:
        """The product that the library does in place of a launch."""
        if self._library is None or step.product is None:
            return None
        return gemm(step.product, frame.sizes)

    def _launch(self, step: KernelStep, frame: Frame) -> None:
        blocks = evaluate(step.grid, frame.sizes)
        if blocks == 0:
            return
        stream = self._stream or self.device.stream
        found = self._product(step, frame)
        if found is not None and self._library is not None and step.product is not None:
            self._multiply(self._library, step.product, found, frame, stream)
            return
        parameters, memory = addresses([frame.word(argument) for argument in step.arguments])
        function = self._functions[step.kernel]
        try:
            self.device.driver.launch(function, blocks, step.block, parameters, stream)
        except CudaError as error:
            raise LaunchError(error, step) from None
        del memory
        self.counts.launches += 1

    def _multiply(
        self, library: Cublas, product: Product, found: Gemm, frame: Frame, stream: Handle
    ) -> None:
        operands = (product.left, product.right, product.out)
        places = [frame.address(operand.place) for operand in operands]
        library.multiply(found, product.dtype, places, stream)
        self.counts.library_calls += 1

    def _loop(self, step: LoopStep, frame: Frame) -> None:
        for inner in rounds(step, frame):
            self._steps(step.steps, inner)

    def _repeat(self, step: WhileStep, frame: Frame) -> None:
        self._steps(step.test, frame)
        while self._scalar(step.condition, frame, "uint8"):
            if self.can_fail and self.failure(frame.status)[0]:
                return
            self._steps(step.steps, frame)
            self._steps(step.test, frame)

    def _switch(self, step: SwitchStep, frame: Frame) -> None:
        index = self._scalar(step.index, frame, "int64")
        self._steps(step.branches[min(max(index, 0), len(step.branches) - 1)], frame)

    def _call(self, step: CallStep, frame: Frame) -> None:
        self._steps(step.plan.steps, frame.within(step))

    def _scalar(self, place: Place, frame: Frame, dtype: str) -> int:
        """What kernels have left at an address: for this the host waits."""
        value = np.empty((), dtype)
        self.device.staging.download(value, frame.address(place))
        return int(value)

    def failure(self, status: int) -> tuple[int, int, int]:
        """Code, node and index of the first check that failed, waiting for the device; 0 for none.
        """
        words = np.empty(STATUS_BYTES // 8, np.int64)
        self.device.staging.download(words, status)
        code, node, index = words.tolist()
        return code, node, index


def _let_go(
    device: Device, unload: Callable[[], None], graphs: Mapping[Any, Handle | None]
) -> None:
    """What a program had in the device is released when nothing there uses it."""
    made = [graph for graph in graphs.values() if graph is not None]
    device.drop(*(functools.partial(device.driver.drop_executable, g) for g in made), unload)


class LaunchError(RuntimeError):
    """The driver did not take a launch. `nodes` are the ops that the kernel computes."""

    def __init__(self, error: CudaError, step: KernelStep) -> None:
        super().__init__(f"the kernel {step.kernel} ({', '.join(step.nodes)}): {error}")
        self.nodes = step.nodes


_HANDLERS: dict[type, Callable[[LoadedProgram, Any, Frame], None]] = {
    KernelStep: LoadedProgram._launch,
    LoopStep: LoadedProgram._loop,
    WhileStep: LoadedProgram._repeat,
    SwitchStep: LoadedProgram._switch,
    CallStep: LoadedProgram._call,
}


def _all_steps(steps: Sequence[Step]) -> Iterator[Step]:
    """Steps, with those inside them and in the plans that they call."""
    waiting, seen = list(steps), set[int]()
    while waiting:
        step = waiting.pop()
        yield step
        inner: list[Step] = []
        if isinstance(step, LoopStep):
            inner = list(step.steps)
        elif isinstance(step, WhileStep):
            inner = [*step.test, *step.steps]
        elif isinstance(step, SwitchStep):
            inner = [each for branch in step.branches for each in branch]
        elif isinstance(step, CallStep) and id(step.plan) not in seen:
            seen.add(id(step.plan))
            inner = list(step.plan.steps)
        waiting += inner


__all__ = ["Counts", "LaunchError", "LoadedProgram"]
