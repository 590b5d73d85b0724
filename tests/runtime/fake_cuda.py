"""What stands in for a GPU in tests of the runtime?  A driver that executes launches with the CPU
emulator and keeps books.

`FakeDriver` has the functions of `cuda.bindings.driver` that graphc calls, under their names, with
their arguments, and returns the bindings' own types. As on a device, what is put on a stream waits:
it is done when somebody waits for it, so memory that is freed, reused or read too early shows.
Memory that nobody has written is NaN, every allocation ends at a guard page, an address outside of
live allocations is refused. `FakeNvrtc` "compiles" a text to itself, since the emulator wants it.
"""

from __future__ import annotations

import collections
import copy
import ctypes
import inspect
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cuda.bindings import driver as real
from cuda.bindings import nvrtc as real_nvrtc

from graphc.runtime.cuda import device as cuda_device
from graphc.runtime.cuda import driver as cuda_driver
from graphc.runtime.cuda import support as cuda
from graphc.runtime.cuda.driver import Bindings
from tests.cuda_emulator import emulator

RESULT = real.CUresult
OK = RESULT.CUDA_SUCCESS
MEMORY_BYTES = 1 << 24
ATTRIBUTES = {
    "COMPUTE_CAPABILITY_MAJOR": 9,
    "COMPUTE_CAPABILITY_MINOR": 0,
    "MEMORY_POOLS_SUPPORTED": 1,
    "MAX_SHARED_MEMORY_PER_BLOCK": 48 << 10,
    "MAX_THREADS_PER_BLOCK": 1024,
}
LEGACY, PER_THREAD = 1, 2
_IN_CONTEXT = ("cuMem", "cuStream", "cuLaunch", "cuModule", "cuEvent", "cuGraph")


class Misuse(AssertionError):
    """The runtime did what a real driver would let pass, or crash on, or silently get wrong."""


class _Stream:
    def __init__(self, is_blocking: bool = True) -> None:
        self.is_blocking = is_blocking  # it waits for the legacy default stream, and that for it
        self.waiting: collections.deque[Callable[[], None]] = collections.deque()
        self.put = self.done = 0
        self.capture: _Capture | None = None
        self.tails: frozenset[int] = frozenset()  # nodes that what is captured next comes after

    def drain(self, until: int | None = None) -> None:
        while self.waiting and (until is None or self.done < until):
            self.done += 1
            self.waiting.popleft()()


class _Capture:
    """A graph that is being made: each piece of work, and those that it comes after."""

    def __init__(self, origin: _Stream) -> None:
        self.streams = [origin]
        self.nodes: list[tuple[Callable[[], None], frozenset[int]]] = []
        self.is_broken = False
        self.join(origin, frozenset(), first=True)

    def join(self, stream: _Stream, tails: frozenset[int], first: bool = False) -> None:
        if stream.is_blocking:
            raise Misuse("whoever uses the default stream meanwhile would break the capture")
        stream.capture, stream.tails = self, tails
        self.streams += [] if first else [stream]

    def end(self) -> bool:
        """Whether all that was put on other streams has come back to the first."""
        waiting, known = list(self.streams[0].tails), set[int]()
        while waiting:
            node = waiting.pop()
            if node not in known:
                known.add(node)
                waiting += self.nodes[node][1]
        for stream in self.streams:
            stream.capture = None
        return len(known) == len(self.nodes)


class FakeDriver:
    """Two GPUs, of which the books are attributes: `live` allocations, `pinned` host memory,
    `peak` bytes, `launches` executed, `copies` by kind and bytes, `calls` made, by name.
    """

    def __init__(self, devices: int = 2) -> None:
        self.devices = devices
        self.attributes = dict(ATTRIBUTES)
        self.live: dict[int, emulator.Buffer] = {}
        self.freed: list[emulator.Buffer] = []  # kept mapped: a late access is found, not reused
        self.pinned: dict[int, Any] = {}
        self.peak = self.launches = 0
        self.copies: list[tuple[str, int]] = []
        self.calls: collections.Counter[str] = collections.Counter()
        self.seen: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # the arguments of one call a kind
        self.returned: dict[tuple[Any, ...], tuple[Any, ...]] = {}  # and its values
        self.streams: dict[int, _Stream] = {LEGACY: _Stream(), PER_THREAD: _Stream()}
        self.events: dict[int, tuple[_Stream, int] | tuple[_Capture, frozenset[int]] | None] = {}
        self.modules: dict[int, emulator.Module] = {}
        self.functions: dict[int, tuple[emulator.Module, str]] = {}
        self.graphs: dict[int, _Capture] = {}
        self.executables: dict[int, _Capture] = {}
        self.contexts: list[int] = []
        self.limits: dict[str, int] = {"MAX_THREADS_PER_BLOCK": 1024, "SHARED_SIZE_BYTES": 0}
        self.order = {"order": "forward", "seed": 0}
        # Which of the nodes of a graph that may run is next: by its position among them.
        self.pick: Callable[[int], int] = lambda count: 0
        self.owner_device: dict[int, int] = {}
        self.skips_kernels = False
        self._faults: dict[str, list[Any]] = {}
        self._sticky: Any = None
        self._next = 100

    # -- what tests ask ----------------------------------------------------------------------------

    def fail(self, call: str, result: str, nth: int = 1, times: int = 1) -> None:
        """Let the nth call from now on, and those after it up to `times`, end with `result`."""
        self._faults[call] = [nth, times, getattr(RESULT, f"CUDA_ERROR_{result}")]

    def fail_on_device(self, result: str) -> None:
        """What runs next on the device fails there: the host learns it when it waits."""
        stream = next(s for n, s in self.streams.items() if n > PER_THREAD and s.is_blocking)
        stream.waiting.append(lambda: self._break(result))
        stream.put += 1

    def _break(self, result: str) -> None:
        self._sticky = getattr(RESULT, f"CUDA_ERROR_{result}")

    @property
    def used(self) -> int:
        return sum(buffer.nbytes for buffer in self.live.values())

    def array(self, content: Any) -> FakeArray:
        """Somebody else's array on the GPU."""
        return FakeArray(self, np.asarray(content))

    def new_stream(self) -> int:
        """A stream of somebody else's that nothing waits for by itself."""
        return int(self._cuStreamCreate(int(real.CUstream_flags.CU_STREAM_NON_BLOCKING))[1])

    def __getattribute__(self, name: str) -> Any:
        """Calls of the driver are counted, checked and made to fail where a test wants it."""
        if not name.startswith("cu") or name == "cuuint64_t":
            return object.__getattribute__(self, name)
        function = object.__getattribute__(self, f"_{name}")

        def call(*arguments: Any) -> tuple[Any, ...]:
            inspect.signature(getattr(real, name)).bind(*arguments)
            self.calls[name] += 1
            self.seen.setdefault((name, *map(type, arguments)), arguments)
            if self._sticky is not None:
                return (self._sticky, None)
            fault = self._faults.get(name)
            if fault is not None:
                fault[0] -= 1
                if fault[0] <= 0 and fault[1] > 0:
                    fault[1] -= 1
                    capture = None
                    if name == "cuStreamEndCapture":  # the capture is over all the same
                        capture = self.streams[int(arguments[0])].capture
                    if capture is not None:
                        capture.end()
                    return (fault[2], None)
            if name.startswith(_IN_CONTEXT) and not self.contexts:
                return (RESULT.CUDA_ERROR_INVALID_CONTEXT, None)
            status, *values = function(*arguments)
            if status == OK:
                self.returned[name, *map(type, arguments)] = tuple(values)
            return (status, *values)

        return call

    # The bindings' own types.
    CUresult = RESULT
    CUdevice_attribute = real.CUdevice_attribute
    CUfunction_attribute = real.CUfunction_attribute
    CUpointer_attribute = real.CUpointer_attribute
    CUmemPool_attribute = real.CUmemPool_attribute
    CUstreamCaptureMode = real.CUstreamCaptureMode
    CUstream_flags = real.CUstream_flags
    CUevent_flags = real.CUevent_flags
    CUstream = real.CUstream
    cuuint64_t = real.cuuint64_t

    def _new(self) -> int:
        self._next += 1
        return self._next

    # -- devices -----------------------------------------------------------------------------------

    def _cuInit(self, flags: int) -> Any:
        return (OK,)

    def _cuDeviceGetCount(self) -> Any:
        return OK, self.devices

    def _cuDeviceGet(self, ordinal: int) -> Any:
        return OK, real.CUdevice(ordinal)

    def _cuDeviceGetName(self, length: int, device: Any) -> Any:
        return OK, b"Emulated GPU".ljust(length, b"\0")

    def _cuDeviceGetAttribute(self, attribute: Any, device: Any) -> Any:
        return OK, self.attributes[attribute.name.removeprefix("CU_DEVICE_ATTRIBUTE_")]

    def _cuDevicePrimaryCtxRetain(self, device: Any) -> Any:
        return OK, real.CUcontext(10 + int(device))

    def _cuCtxPushCurrent(self, context: Any) -> Any:
        self.contexts.append(int(context))
        return (OK,)

    def _cuCtxPopCurrent(self) -> Any:
        return OK, real.CUcontext(self.contexts.pop())

    def _cuCtxSynchronize(self) -> Any:
        for stream in self.streams.values():
            if not self._no_capture(stream):
                return (RESULT.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,)
        while any(stream.waiting for stream in self.streams.values()):
            for stream in self.streams.values():
                stream.drain()
        return (self._sticky or OK,)

    # -- streams and events ------------------------------------------------------------------------

    def _cuStreamCreate(self, flags: int) -> Any:
        handle = self._new()
        self.streams[handle] = _Stream(flags == int(real.CUstream_flags.CU_STREAM_DEFAULT))
        return OK, real.CUstream(handle)

    def _put(self, stream: Any, work: Callable[[], None]) -> None:
        found = self.streams[int(stream)]
        if found.capture is not None:
            found.capture.nodes.append((work, found.tails))
            found.tails = frozenset([len(found.capture.nodes) - 1])
            return
        found.put += 1
        found.waiting.append(work)

    def _no_capture(self, stream: _Stream) -> bool:
        """Whether the host may wait: during a capture it may not, and that ends the capture."""
        if stream.capture is not None:
            stream.capture.is_broken = True
        return stream.capture is None

    def _cuStreamSynchronize(self, stream: Any) -> Any:
        found = self.streams[int(stream)]
        if not self._no_capture(found):
            return (RESULT.CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED,)
        found.drain()
        return (self._sticky or OK,)

    def _cuEventCreate(self, flags: int) -> Any:
        handle = self._new()
        self.events[handle] = None
        return OK, real.CUevent(handle)

    def _cuEventRecord(self, event: Any, stream: Any) -> Any:
        found = self.streams[int(stream)]
        if found.capture is not None:
            self.events[int(event)] = found.capture, found.tails
        else:
            self.events[int(event)] = found, found.put
        return (OK,)

    def _cuEventQuery(self, event: Any) -> Any:
        stream, until = self._recorded(event)
        return (OK if stream.done >= until else RESULT.CUDA_ERROR_NOT_READY,)

    def _recorded(self, event: Any) -> tuple[_Stream, int]:
        """Where the event stands, for the host: not inside of a graph."""
        stream, until = self.events[int(event)] or (None, 0)
        if not isinstance(stream, _Stream):
            raise Misuse("the host waits for an event that was captured, or never recorded")
        return stream, until  # type: ignore[return-value]

    def _cuEventSynchronize(self, event: Any) -> Any:
        stream, until = self._recorded(event)
        stream.drain(until)
        return (self._sticky or OK,)

    def _cuEventDestroy(self, event: Any) -> Any:
        del self.events[int(event)]
        return (OK,)

    def _cuStreamWaitEvent(self, stream: Any, event: Any, flags: int) -> Any:
        found = self.streams[int(stream)]
        other, until = self.events[int(event)] or (None, 0)
        if isinstance(other, _Capture):
            assert isinstance(until, frozenset)
            if found.capture is None:
                other.join(found, until)
            elif found.capture is not other:
                raise Misuse("an event of another graph")
            found.tails |= until
            return (OK,)
        if found.capture is not None:
            found.capture.is_broken = True
            return (RESULT.CUDA_ERROR_STREAM_CAPTURE_ISOLATION,)
        other, until = self._recorded(event)
        self._put(stream, lambda: other.drain(until))
        return (OK,)

    # -- memory ------------------------------------------------------------------------------------

    def _cuDeviceGetDefaultMemPool(self, device: Any) -> Any:
        return OK, real.CUmemoryPool(1)

    def _cuMemPoolSetAttribute(self, pool: Any, attribute: Any, value: Any) -> Any:
        assert int(value) > 0
        return (OK,)

    def _cuMemAllocAsync(self, nbytes: int, stream: Any) -> Any:
        if nbytes <= 0:
            return RESULT.CUDA_ERROR_INVALID_VALUE, None
        if self.used + nbytes > MEMORY_BYTES:
            return RESULT.CUDA_ERROR_OUT_OF_MEMORY, None
        if any(each.capture is not None for each in self.streams.values()):
            raise Misuse("memory is allocated while a graph is made")
        buffer = emulator.Buffer.empty(-(-nbytes // 16) * 16, np.uint8)
        self.live[buffer.address] = buffer
        self.peak = max(self.peak, self.used)
        return OK, real.CUdeviceptr(buffer.address)

    def _cuMemFreeAsync(self, address: int, stream: Any) -> Any:
        buffer = self.live[int(address)]

        def free() -> None:
            del self.live[buffer.address]
            buffer.bytes[:] = 0xFF
            self.freed.append(buffer)

        self._put(stream, free)
        return (OK,)

    def _cuMemGetInfo(self) -> Any:
        return OK, MEMORY_BYTES - self.used, MEMORY_BYTES

    def _cuMemHostAlloc(self, nbytes: int, flags: int) -> Any:
        memory = (ctypes.c_uint8 * nbytes)()
        self.pinned[ctypes.addressof(memory)] = memory
        return OK, ctypes.addressof(memory)

    def _cuPointerGetAttribute(self, attribute: Any, address: int) -> Any:
        try:
            buffer, _ = self.find(address, 1)
        except Misuse:
            return RESULT.CUDA_ERROR_INVALID_VALUE, None
        return OK, self.owner_device.get(buffer.address, 0)

    def find(self, address: int, nbytes: int) -> tuple[emulator.Buffer, int]:
        """The live allocation that so many bytes from an address on lie in, and where in it."""
        for start, buffer in self.live.items():
            if start <= address and address + nbytes <= start + buffer.nbytes:
                return buffer, address - start
        raise Misuse(f"{nbytes} bytes at {address:#x} are in no live allocation")

    def _bytes(self, address: int, nbytes: int) -> np.ndarray:
        buffer, offset = self.find(int(address), nbytes)
        return buffer.bytes[offset : offset + nbytes]

    def _host(self, address: int, nbytes: int) -> np.ndarray:
        for start, memory in self.pinned.items():
            if start <= address and address + nbytes <= start + len(memory):
                return np.frombuffer(memory, np.uint8, nbytes, address - start)
        raise Misuse("a copy from or to host memory that is not pinned")

    def _cuMemcpyHtoDAsync(self, target: int, source: int, nbytes: int, stream: Any) -> Any:
        host = self._host(source, nbytes)
        self.copies.append(("up", nbytes))

        def move() -> None:
            self._bytes(target, nbytes)[:] = host

        self._put(stream, move)
        return (OK,)

    def _cuMemcpyDtoHAsync(self, target: int, source: int, nbytes: int, stream: Any) -> Any:
        host = self._host(target, nbytes)
        self.copies.append(("down", nbytes))

        def move() -> None:
            host[:] = self._bytes(source, nbytes)

        self._put(stream, move)
        return (OK,)

    def _cuMemcpyDtoDAsync(self, target: int, source: int, nbytes: int, stream: Any) -> Any:
        self.copies.append(("across", nbytes))

        def move() -> None:
            self._bytes(target, nbytes)[:] = self._bytes(source, nbytes)

        self._put(stream, move)
        return (OK,)

    def _cuMemsetD8Async(self, target: int, value: int, nbytes: int, stream: Any) -> Any:
        self._put(stream, lambda: self._bytes(target, nbytes).fill(value))
        return (OK,)

    # -- kernels -----------------------------------------------------------------------------------

    def _cuModuleLoadData(self, image: bytes) -> Any:
        text = image.rstrip(b"\0").decode().removeprefix(IMAGE)
        names = re.findall(r"__global__\s+void\s+(?:__launch_bounds__\([^)]*\)\s*)?(\w+)\(", text)
        handle = self._new()
        self.modules[handle] = emulator.compile(text, names)
        return OK, real.CUmodule(handle)

    def _cuModuleUnload(self, module: Any) -> Any:
        del self.modules[int(module)]
        return (OK,)

    def _cuModuleGetFunction(self, module: Any, name: bytes) -> Any:
        found = self.modules[int(module)]
        if name.decode() not in found.kernels:
            return RESULT.CUDA_ERROR_NOT_FOUND, None
        handle = self._new()
        self.functions[handle] = found, name.decode()
        return OK, real.CUfunction(handle)

    def _cuFuncGetAttribute(self, attribute: Any, function: Any) -> Any:
        return OK, self.limits[attribute.name.removeprefix("CU_FUNC_ATTRIBUTE_")]

    def _cuLaunchKernel(self, function: Any, *rest: Any) -> Any:
        *shape, shared_bytes, stream, parameters, extra = rest
        module, name = self.functions[int(function)]
        codes = (emulator._ParameterCode * 1024)()
        count = getattr(module._loaded, f"{name}__describe")(codes)
        pointers = (ctypes.c_void_p * count).from_address(parameters)
        words = [ctypes.c_uint64.from_address(pointers[i]).value for i in range(count)]

        def run() -> None:
            arguments = [self._argument(codes[i], words[i]) for i in range(count)]
            if self.skips_kernels:
                return
            grid, block = shape[:3], shape[3:]
            module.launch(name, grid=grid, block=block, arguments=arguments, **self.order)
            self.launches += 1

        self._put(stream, run)
        return (OK,)

    def _argument(self, code: Any, word: int) -> Any:
        if not code.is_pointer:
            return np.array(word, np.uint64).view(np.int64)[()]
        buffer, offset = self.find(word, 0)
        view = copy.copy(buffer)
        dtype = np.dtype(code.dtype or np.uint8)
        view.array = buffer.bytes[: buffer.nbytes // dtype.itemsize * dtype.itemsize].view(dtype)
        return view.at(offset)

    # -- graphs ------------------------------------------------------------------------------------

    def _cuStreamBeginCapture(self, stream: Any, mode: Any) -> Any:
        _Capture(self.streams[int(stream)])
        return (OK,)

    def _cuStreamEndCapture(self, stream: Any) -> Any:
        taken = self.streams[int(stream)].capture
        if taken is None:
            return RESULT.CUDA_ERROR_ILLEGAL_STATE, None
        has_joined = taken.end()
        if taken.is_broken:
            return RESULT.CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, None
        if not has_joined:
            return RESULT.CUDA_ERROR_STREAM_CAPTURE_UNJOINED, None
        handle = self._new()
        self.graphs[handle] = taken
        return OK, real.CUgraph(handle)

    def _cuGraphInstantiate(self, graph: Any, flags: int) -> Any:
        handle = self._new()
        self.executables[handle] = self.graphs[int(graph)]
        return OK, real.CUgraphExec(handle)

    def _cuGraphDestroy(self, graph: Any) -> Any:
        del self.graphs[int(graph)]
        return (OK,)

    def _cuGraphLaunch(self, executable: Any, stream: Any) -> Any:
        nodes = self.executables[int(executable)].nodes

        def run() -> None:
            done: set[int] = set()
            while len(done) < len(nodes):
                ready = [i for i, (_, needs) in enumerate(nodes) if i not in done and needs <= done]
                chosen = ready[self.pick(len(ready))]
                nodes[chosen][0]()
                done.add(chosen)

        self._put(stream, run)
        return (OK,)

    def _cuGraphExecDestroy(self, executable: Any) -> Any:
        del self.executables[int(executable)]
        return (OK,)


class FakeArray:
    """An array of another library on the GPU: `__cuda_array_interface__`, on a stream of its own.
    """

    def __init__(self, driver: FakeDriver, content: np.ndarray, device: int = 0) -> None:
        self.driver = driver
        base = content if content.base is None else content.base
        self.buffer = emulator.Buffer(np.ascontiguousarray(base))
        driver.live[self.buffer.address] = self.buffer
        driver.owner_device[self.buffer.address] = device
        self.offset = content.__array_interface__["data"][0] - base.__array_interface__["data"][0]
        self.content = content
        self.dtype, self.shape = content.dtype, content.shape
        self.stream: int | None = None
        self.read_only = False

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.content.shape,
            "typestr": self.content.dtype.str,
            "data": (self.buffer.address + self.offset if self.content.size else 0, self.read_only),
            "strides": self.content.strides,
            "version": 3,
            "stream": self.stream,
        }

    def numpy(self) -> np.ndarray:
        """What is there now."""
        flat = np.ndarray(
            self.content.shape,
            self.content.dtype,
            self.buffer.bytes.data,
            self.offset,
            self.content.strides,
        )
        return flat.copy()


IMAGE = "emulated "


class FakeNvrtc:
    """NVRTC, whose machine code is the text itself, and whose log is as ptxas writes it."""

    nvrtcGetErrorString = staticmethod(real_nvrtc.nvrtcGetErrorString)

    def __init__(self) -> None:
        self.compiled: list[tuple[str, tuple[str, ...]]] = []
        self.programs: dict[int, str] = {}
        self.refusal = ""

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("nvrtc") and name != "nvrtcGetErrorString":
            function = object.__getattribute__(self, f"_{name}")

            def call(*arguments: Any) -> tuple[Any, ...]:
                inspect.signature(getattr(real_nvrtc, name)).bind(*arguments)
                return function(*arguments)

            return call
        return object.__getattribute__(self, name)

    def _nvrtcVersion(self) -> Any:
        return 0, 13, 0

    def _nvrtcGetSupportedArchs(self) -> Any:
        return 0, [75, 80, 90, 100]

    def _nvrtcCreateProgram(self, text: bytes, *rest: Any) -> Any:
        self.programs[len(self.programs)] = text.decode()
        return 0, len(self.programs) - 1

    def _nvrtcCompileProgram(self, program: int, count: int, options: list[bytes]) -> Any:
        flags = tuple(option.decode() for option in options)
        assert len(flags) == count
        self.compiled.append((self.programs[program], flags))
        return (6 if self.refusal else 0,)

    def _nvrtcDestroyProgram(self, program: int) -> Any:
        return (0,)

    def _log(self, program: int) -> bytes:
        if self.refusal:
            return f"ptxas info    : Compiling\nptxas error   : {self.refusal}\0".encode()
        names = re.findall(r"__launch_bounds__\([^)]*\)\s*(\w+)\(", self.programs[program])
        return "".join(
            f"ptxas info : Compiling entry function '{name}' for 'sm_90'\n"
            "ptxas info : Used 24 registers, used 1 barriers, 64 bytes smem\n"
            for name in names
        ).encode() + b"\0"

    def _image(self, program: int) -> bytes:
        return (IMAGE + self.programs[program]).encode() + b"\0"

    def _nvrtcGetProgramLogSize(self, program: int) -> Any:
        return 0, len(self._log(program))

    def _nvrtcGetProgramLog(self, program: int, into: bytearray) -> Any:
        into[:] = self._log(program)
        return (0,)

    def _nvrtcGetCUBINSize(self, program: int) -> Any:
        return 0, len(self._image(program))

    def _nvrtcGetCUBIN(self, program: int, into: bytearray) -> Any:
        into[:] = self._image(program)
        return (0,)

    _nvrtcGetPTXSize, _nvrtcGetPTX = _nvrtcGetCUBINSize, _nvrtcGetCUBIN


def fake(devices: int = 2) -> Bindings:
    return Bindings(FakeDriver(devices), FakeNvrtc())


def put_in_place(monkeypatch: pytest.MonkeyPatch, devices: int = 2) -> FakeDriver:
    """Let all that asks for a GPU in a test find the stand-in, with nothing on it yet."""
    bindings = fake(devices)
    monkeypatch.setattr(cuda_driver, "bindings", lambda: bindings)
    monkeypatch.setattr(cuda_device, "_DEVICES", {})
    monkeypatch.setattr(cuda, "missing", list)
    return bindings.driver
