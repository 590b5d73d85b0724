"""What happens when a Function compiled for "cuda" is called?

Arguments are checked as those of native code are, with the same messages. Arrays on the host go
through staging buffers into the arena; arrays on the GPU are read where they are. If any argument
is on the GPU the results stay there, else they come back as ndarrays. Everything that a call needs
is reserved before anything is launched, and `out=` arrays on the host are written last, so an error
leaves them as they were.

Kernels know arrays in C order that begin at multiples of 16 bytes. For others on the GPU the
program is made once more, with their strides as arguments.
"""

from __future__ import annotations

import functools
import itertools
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphc.codegen.cuda.program import (
    ALIGNED,
    SCRATCH_BLOCKS,
    CudaProgram,
    cuda_source,
    lower_for_cuda,
)
from graphc.codegen.extents import canonical, derive
from graphc.codegen.program import Program
from graphc.dims import evaluate
from graphc.dtypes import as_dtype
from graphc.errors import GraphError
from graphc.request import Request
from graphc.runtime.callable import Implementation
from graphc.runtime.compile import Compiled, CompiledFunction, raise_checked
from graphc.runtime.cuda.array import DeviceArray, Given, on_device
from graphc.runtime.cuda.compile import Code, architecture, compiled
from graphc.runtime.cuda.device import Device, Memory, device, rounded
from graphc.runtime.cuda.frame import STATUS_BYTES, Array, Frame
from graphc.runtime.cuda.launch import Counts, LoadedProgram
from graphc.runtime.cuda.library import cublas
from graphc.runtime.cuda.library import reason_missing as no_cublas
from graphc.runtime.cuda.report import CudaReport
from graphc.runtime.cuda.stream import callers_stream, handle_of
from graphc.runtime.engine import engine
from graphc.runtime.leaf import make_function
from graphc.runtime.native import NativeProgram, Recorder

# What the status record takes of the arena.
_STATUS_LINE = rounded(STATUS_BYTES)


def compile_cuda(request: Request) -> Any:
    """The Function of a request, for a GPU. Raises CompileError where the GPU cannot take it."""
    return make_function(CudaCompiled(request), CompiledFunction, plain=True)


@dataclass(frozen=True)
class Variant:
    """A program for inputs of which some have strides of their own, in the device."""

    program: CudaProgram
    code: Code
    loaded: LoadedProgram
    constants: tuple[Memory, ...]


@dataclass
class _Results:
    """Where results go: `addresses` are what kernels write. What lies elsewhere is copied at the
    end: `from_host` to ndarrays, `on_device` to arrays on the GPU.
    """

    shapes: list[tuple[int, ...]]
    packed: list[Any]
    places: list[int | None]  # None: in the arena
    from_host: list[np.ndarray | None]
    on_device: list[Given | None]


class CudaCompiled(Compiled):
    """What stands behind a Function that runs on a GPU."""

    def __init__(self, request: Request) -> None:
        self.request = request
        self.recorder = Recorder()
        self.workers = SCRATCH_BLOCKS
        self.texts = {}
        self.native = NativeProgram(0, 0, {}, ())
        self._last_sizes: dict[str, int] = {}
        self._making = threading.Lock()
        self._by_strides: dict[tuple[bool, ...], Variant] = {}
        with self.recorder.timed("close"):
            self.written, self.dim_names = canonical(request.graph)
        self.layout = self._layout(0, 0)
        self.device: Device = device(request.options.device)
        Implementation.__init__(self, self._spec())
        with self.device.in_use():
            self.variant(())

    # -- the program -------------------------------------------------------------------------------

    @functools.cached_property
    def program(self) -> Program:
        """The program, with its kernels and what they compute."""
        return self._lowered(())

    def _lowered(self, strided: Sequence[bool]) -> Program:
        fast = self.request.options.math == "fast"
        rewritten = self.rewritten
        with self.recorder.timed("lower"):
            return lower_for_cuda(rewritten, SCRATCH_BLOCKS, strided, fast=fast)

    def variant(self, strided: tuple[bool, ...]) -> Variant:
        """The program for inputs with strides where `strided` says so; none for ()."""
        key = strided if any(strided) else ()
        with self._making:
            if key not in self._by_strides:
                self._by_strides[key] = self._new_variant(key)
            return self._by_strides[key]

    def _new_variant(self, strided: tuple[bool, ...]) -> Variant:
        options, name = self.request.options, self.request.name
        program = self._lowered(strided) if strided else self.program
        with self.recorder.timed("print"):
            names = self.request.names
            cores = options.tensor_cores
            source = cuda_source(program, name, SCRATCH_BLOCKS, names, self.dim_names, cores)
        with self.recorder.timed("nvrtc"):
            arch = architecture(self.device.capability)
            code = compiled(source.code, arch, engine().cache if options.cache else None)
        with self.recorder.timed("load"):
            library = cublas(self.device) if options.library == "cublas" else None
            loaded = LoadedProgram(self.device, source, code, library)
            constants = tuple(self._constant(array) for array in source.constants)
            if constants:
                self.device.wait_for_all()  # calls on any stream may read them
        return Variant(source, code, loaded, constants)

    def _constant(self, array: Any) -> Memory:
        content = np.ascontiguousarray(array)
        memory = self.device.allocate(content.nbytes, f"a constant of {self.request.name}()")
        self.device.staging.upload(memory.address, content)
        return memory

    @property
    def cuda(self) -> CudaProgram:
        """The CUDA C++ and the plan, for contiguous arrays."""
        return self.variant(()).program

    @property
    def cuda_source(self) -> str:
        """The CUDA C++ of every kernel."""
        return self.cuda.text

    @property
    def counts(self) -> Counts:
        """What contiguous calls did so far."""
        return self.variant(()).loaded.counts

    @property
    def stream(self) -> int:
        """The handle of the stream that calls are put on, if the caller names none."""
        return int(self.device.lanes[0].stream)

    def to_device(self, value: Any) -> DeviceArray:
        """A copy of an array on the GPU, to be passed to any Function that runs there. Raises
        TypeError for elements that graphc has no dtype for, MemoryError if there is too little.
        """
        array = np.asarray(value, order="C")
        try:
            array = array.astype(as_dtype(array.dtype), copy=False)
        except GraphError as error:
            raise TypeError(f"{self.spec.name}.to_device: {error}") from None
        with self.device.in_use():
            memory = self.device.allocate(array.nbytes, "the copy of an array")
            self.device.staging.upload(memory.address, array)
        return DeviceArray(memory, memory.address, array.shape, array.dtype)

    def synchronize(self) -> None:
        """Wait until every call so far is done."""
        with self.device.in_use():
            self.device.synchronize()

    def reduce(self) -> tuple[Any, ...]:
        return (compile_cuda, (self.request,))

    def report(self) -> CudaReport:
        """Kernels with registers, occupancy and instructions; launches and modelled bytes, with the
        extents of the last call.
        """
        variant = self.variant(())
        wants_cublas = self.request.options.library == "cublas"
        return CudaReport.of(
            variant.program,
            variant.code.arch,
            variant.code,
            sizes=self._last_sizes,
            seconds=self.recorder.phases(),
            loaded=variant.loaded,
            notes=[no_cublas()] if wants_cublas and no_cublas() else [],
        )

    def _arrays(self, args: Sequence[Any], named: Mapping[str, Any]) -> list[Any]:
        """The arguments of a call as arrays on the host, where graphs are evaluated."""
        with self.device.in_use():
            arrays = super()._arrays(args, named)
            for position, given in enumerate(arrays):
                if not isinstance(given, Given):
                    continue
                if not given.is_contiguous:
                    self._refuse_argument(
                        ValueError, position, "is on the GPU and not C-contiguous", "pass a copy"
                    )
                arrays[position] = np.empty(given.shape, given.dtype)
                self.device.staging.download(arrays[position], given.view.address)
        return arrays

    # -- the call ----------------------------------------------------------------------------------

    def slow(self, /, *args: Any, out: Any = None, **named: Any) -> Any:
        """The whole call: checks with full messages, copies, the launches, the results.

        `stream` (by name, unless an input has it) is that of the caller, as `gx.cuda_stream` says.
        """
        stream = None
        if "stream" in named and all(entry.name != "stream" for entry in self.spec.inputs):
            stream = named.pop("stream")
        values = self.arguments(args, named)
        with self.device.in_use(callers_stream() if stream is None else handle_of(stream)):
            self.device.tidy()
            arrays: list[Any] = [self._convert(i, value) for i, value in enumerate(values)]
            slots = self._bind(arrays)
            on_host = [a for a in arrays if isinstance(a, np.ndarray)]
            self._check_donated(values, arrays)
            results = self._placed(values, arrays, slots, out, len(on_host) == len(arrays))
            if any(results.on_device):
                self.device.come_after_all()  # they may be read on other streams
            self._call(arrays, results, slots)
        return self._pack(results.packed)

    def _convert(self, position: int, value: Any) -> Any:
        try:
            given = on_device(value, self.device)
        except (TypeError, ValueError, BufferError) as error:
            headline, *lines = str(error).splitlines()
            self._refuse_argument(type(error), position, headline, *lines)
        if given is None:
            array = super()._convert(position, value)
            return array if array.flags.c_contiguous else np.ascontiguousarray(array)
        entry = self.spec.inputs[position]
        if given.dtype != entry.dtype:
            self._refuse_argument(
                TypeError,
                position,
                f"expected {self._expected(position)}, got dtype {given.dtype} on the GPU",
                f"convert it to {entry.dtype} before the call: arrays on a GPU are not copied",
            )
        if given.view.address % entry.dtype.itemsize:
            self._refuse_argument(
                ValueError, position, f"its address is no multiple of {entry.dtype.itemsize}"
            )
        if position in self.spec.donated and (given.view.read_only or not given.is_contiguous):
            self._refuse_argument(
                ValueError, position, "is donated, but read-only or not C-contiguous"
            )
        return given

    def _derive(self, slots: Any) -> None:
        found = self.layout.slots
        values, failure = derive(found, slots[: len(found.free)])
        if failure is not None:
            number, got, wanted = failure
            raise self._violated(self.layout.constraints[number], got, wanted)
        slots[: len(values)] = values

    def _check_donated(self, values: Sequence[Any], arrays: Sequence[Any]) -> None:
        """Refuse what overlaps with a donated argument, on the host and on the device."""
        if not self.spec.donated:
            return
        stand_ins = [a if isinstance(a, np.ndarray) else np.empty(0) for a in arrays]
        self._check_donations(values, stand_ins)
        for giver in self.spec.donated:
            for other, array in enumerate(arrays):
                both = isinstance(arrays[giver], Given) and isinstance(array, Given)
                if other != giver and both and _overlap(arrays[giver], array):
                    self._refuse_argument(
                        ValueError,
                        giver,
                        f"is donated, but overlaps argument {self.spec.inputs[other].name}",
                        "pass a copy of one of them",
                    )

    # -- results -----------------------------------------------------------------------------------

    def _placed(
        self, values: Sequence[Any], arrays: Sequence[Any], slots: Any, out: Any, to_host: bool
    ) -> _Results:
        results = _Results([], [], [], [], [])
        is_one = len(self.spec.outputs) == 1 and not isinstance(out, list | tuple)
        given = self._given([out] if is_one and out is not None else out)
        taken: list[Given] = []
        for position, entry in enumerate(self.spec.outputs):
            shape = self._shape_of(position, slots)
            results.shapes.append(shape)
            donor = self._donors.get(position)
            target = given[position] if donor is None else values[donor]
            if donor is not None:
                self._check_donated_out(position, given[position], target)
            if target is None and to_host:
                target = np.empty(shape, entry.dtype)
            if target is None:
                self._place_new(results, shape, entry.dtype)
            elif isinstance(target, np.ndarray):
                if donor is None:
                    self._check_out(position, target, shape)
                _append(results, target, None, target, None)
            else:
                self._place_given(results, position, target, shape, [*arrays, *taken])
                taken += [each for each in results.on_device[-1:] if each is not None]
        written = [np.empty(0) if array is None else array for array in results.from_host]
        self._not_direct([], written, list(range(len(written))))  # refuses those that overlap
        self._check_apart(results.on_device)
        return results

    def _check_apart(self, given: Sequence[Given | None]) -> None:
        """Refuse arrays on the GPU that are to hold more than one result."""
        targets = [(position, each) for position, each in enumerate(given) if each is not None]
        for (first, one), (second, other) in itertools.combinations(targets, 2):
            if _overlap(one, other):
                both = f"out[{first}] and out[{second}] overlap"
                self._refuse(ValueError, both, "pass arrays of their own")

    def _shape_of(self, position: int, slots: Any) -> tuple[int, ...]:
        axes = self.spec.outputs[position].shape
        return tuple(axis if isinstance(axis, int) else slots[axis[1]] for axis in axes)

    def _place_new(self, results: _Results, shape: tuple[int, ...], dtype: Any) -> None:
        nbytes = _elements(shape) * dtype.itemsize
        memory = self.device.allocate(nbytes, f"a result of {self.spec.name}()")
        array = DeviceArray(memory, memory.address, shape, dtype)
        _append(results, array, memory.address, None, None)

    def _place_given(
        self,
        results: _Results,
        position: int,
        target: Any,
        shape: tuple[int, ...],
        others: Sequence[Any],
    ) -> None:
        """An array on the GPU that is to hold a result."""
        entry = self.spec.outputs[position]
        which = "out" if len(self.spec.outputs) == 1 else f"out[{position}]"
        try:
            given = on_device(target, self.device)
        except (TypeError, ValueError, BufferError) as error:
            headline, *lines = str(error).splitlines()
            self._refuse(type(error), f"{which}: {headline}", *lines)
        expected = f"expected a C-contiguous {entry.dtype} array of shape {shape}"
        if given is None:
            self._refuse(TypeError, f"{which}: {expected}, got a {type(target).__name__}")
        if given.dtype != entry.dtype or given.shape != shape or not given.is_contiguous:
            got = f"{given.dtype} of shape {given.shape}, strides {given.view.strides}"
            self._refuse(ValueError, f"{which}: {expected}, got {got}")
        if given.view.read_only:
            self._refuse(ValueError, f"{which}: the array is read-only")
        touched = any(isinstance(other, Given) and _overlap(given, other) for other in others)
        direct = not touched and given.view.address % ALIGNED == 0
        _append(results, target, given.view.address if direct else None, None, given)

    # -- running -----------------------------------------------------------------------------------

    def _call(self, arrays: list[Any], results: _Results, slots: Any) -> None:
        names = self.layout.slots.program_names
        sizes = self._last_sizes = dict(zip(names, slots, strict=False))
        strided = tuple(isinstance(a, Given) and not _is_plain(a) for a in arrays)
        variant = self.variant(strided)
        frame, inputs = self._frame(variant, arrays, results, sizes)
        driver, stream = self.device.driver, self.device.stream
        fails = variant.loaded.can_fail
        try:
            if fails:
                driver.clear(frame.status, STATUS_BYTES, stream)
            for target, array in inputs:
                self.device.staging.upload(target, array)
            variant.loaded.run(frame)
            if fails:
                self._check_failure(variant, frame)
            self._finish(results, frame)
        finally:
            # The device may still read what the caller is free to drop.
            held = [a for a in (*arrays, *results.on_device) if isinstance(a, Given)]
            made = [each for each in results.packed if isinstance(each, DeviceArray)]
            for each in made:
                each.written_on(self.device.lane)
            if held or made:
                self.device.keep(held, results.packed)

    def _frame(
        self, variant: Variant, arrays: Sequence[Any], results: _Results, sizes: dict[str, int]
    ) -> tuple[Frame, list[tuple[int, np.ndarray]]]:
        """Addresses for everything, and what must be copied where: the arena holds the status, the
        scratch, the inputs from the host and the results on their way there.
        """
        offset = _STATUS_LINE + rounded(evaluate(variant.program.arena_bytes, sizes))
        host_places: list[int] = []
        for array in arrays:
            host_places.append(offset)
            offset += 0 if isinstance(array, Given) else rounded(array.nbytes)
        output_places: list[int] = []
        for position, place in enumerate(results.places):
            output_places.append(offset)
            if place is None:
                entry = self.spec.outputs[position]
                offset += rounded(_elements(results.shapes[position]) * entry.dtype.itemsize)
        base = self.device.arena.reserve(offset)
        inputs = tuple(
            Array(array.view.address or base, array.view.strides if any_strides else ())
            if isinstance(array, Given)
            else Array(base + start)
            for array, start, any_strides in zip(
                arrays, host_places, _strided_inputs(variant), strict=True
            )
        )
        outputs = tuple(
            Array(base + start if place is None else place)
            for place, start in zip(results.places, output_places, strict=True)
        )
        constants = tuple(memory.address for memory in variant.constants)
        frame = Frame(inputs, outputs, constants, base + _STATUS_LINE, base, sizes)
        copied = [
            (base + start, array)
            for array, start in zip(arrays, host_places, strict=True)
            if not isinstance(array, Given)
        ]
        return frame, copied

    def _check_failure(self, variant: Variant, frame: Frame) -> None:
        code, node, index = variant.loaded.failure(frame.status)
        if code:
            checked = variant.program.checks[node]
            raise_checked(self.spec.name, checked, code, index, self.wording.extent)

    def _finish(self, results: _Results, frame: Frame) -> None:
        """Bring results to where they belong."""
        arrays: list[tuple[np.ndarray, np.ndarray]] = []
        if any(target is not None for target in results.from_host):
            # If a kernel fails this is where it shows, before anything of the caller's is written.
            self.device.driver.synchronize(self.device.stream)
        for position, entry in enumerate(self.spec.outputs):
            source, target = frame.outputs[position].address, results.from_host[position]
            given = results.on_device[position]
            if target is not None:
                direct = target.flags.carray and target.dtype == entry.dtype
                array = target if direct else np.empty(target.shape, entry.dtype)
                self.device.staging.download(array, source)
                arrays += [] if direct else [(target, array)]
            elif given is not None and given.view.address != source and given.nbytes:
                stream = self.device.stream
                self.device.driver.copy(given.view.address, source, given.nbytes, stream)
        for target, array in arrays:
            np.copyto(target, array, casting="same_kind")


def _elements(shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64))


def _append(
    results: _Results,
    packed: Any,
    place: int | None,
    to_host: np.ndarray | None,
    given: Given | None,
) -> None:
    results.packed.append(packed)
    results.places.append(place)
    results.from_host.append(to_host)
    results.on_device.append(given)


def _strided_inputs(variant: Variant) -> list[bool]:
    return [type_.strided for type_ in variant.program.plan.inputs]


def _is_plain(given: Given) -> bool:
    """Whether kernels for C order can read an array on the GPU."""
    return given.is_contiguous and given.view.address % ALIGNED == 0


def _overlap(one: Given, other: Given) -> bool:
    (low, high), (start, end) = one.span(), other.span()
    return low < end and start < high and low != high and start != end


__all__ = ["CudaCompiled", "compile_cuda"]
