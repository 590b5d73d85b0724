"""What does graphc ask of the CUDA driver?  Every call of it stands here once, with its status
checked.

The calls are those of `cuda.bindings.driver`, which has the names and arguments of NVIDIA's C API.
A call returns its status and its results; here it returns its results, or raises a `CudaError`.
Nothing else in graphc touches the bindings' `driver` module, so whatever has these functions can
stand in for it.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

# Handles are what the bindings return; addresses are integers.
Handle = Any

_NAME_BYTES = 256
_OUT_OF_MEMORY, _NOT_READY = "CUDA_ERROR_OUT_OF_MEMORY", "CUDA_ERROR_NOT_READY"
# After these the driver refuses every further call of the process.
_STICKY = frozenset(
    f"CUDA_ERROR_{name}"
    for name in (
        *("ILLEGAL_ADDRESS", "LAUNCH_TIMEOUT", "ASSERT", "HARDWARE_STACK_ERROR", "LAUNCH_FAILED"),
        *("ILLEGAL_INSTRUCTION", "MISALIGNED_ADDRESS", "INVALID_ADDRESS_SPACE", "INVALID_PC"),
    )
)


class CudaError(RuntimeError):
    """A call of the driver that failed; `name` is the driver's, like CUDA_ERROR_INVALID_VALUE."""

    def __init__(self, call: str, name: str) -> None:
        text = f"{call} failed with {name}"
        if name in _STICKY:
            text += ": the device cannot be used again in this process"
        super().__init__(text)
        self.call = call
        self.name = name

    @property
    def is_out_of_memory(self) -> bool:
        return self.name == _OUT_OF_MEMORY

    @property
    def is_sticky(self) -> bool:
        return self.name in _STICKY


@dataclass(frozen=True)
class Bindings:
    """The two modules of cuda-bindings that are used."""

    driver: Any
    nvrtc: Any


@functools.cache
def bindings() -> Bindings:
    """The modules of cuda-bindings; raises ImportError where it is not installed."""
    return Bindings(*(importlib.import_module(f"cuda.bindings.{n}") for n in ("driver", "nvrtc")))


class Driver:
    """The driver, by way of a module with the functions of `cuda.bindings.driver`."""

    def __init__(self, api: Any) -> None:
        self.api = api
        self._call("cuInit", 0)

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *values = getattr(self.api, name)(*arguments)
        if status:
            raise CudaError(name, self.api.CUresult(status).name)
        return values[0] if len(values) == 1 else tuple(values)

    # -- devices -----------------------------------------------------------------------------------

    def device_count(self) -> int:
        return self._call("cuDeviceGetCount")

    def device(self, ordinal: int) -> Handle:
        return self._call("cuDeviceGet", ordinal)

    def device_name(self, device: Handle) -> str:
        return self._call("cuDeviceGetName", _NAME_BYTES, device).split(b"\0")[0].decode()

    def device_attribute(self, device: Handle, name: str) -> int:
        """An attribute by its name in the C API, without CU_DEVICE_ATTRIBUTE_."""
        attribute = getattr(self.api.CUdevice_attribute, f"CU_DEVICE_ATTRIBUTE_{name}")
        return self._call("cuDeviceGetAttribute", attribute, device)

    def primary_context(self, device: Handle) -> Handle:
        """The context that the runtime API, and so other libraries, use: pointers are common."""
        return self._call("cuDevicePrimaryCtxRetain", device)

    @contextmanager
    def current(self, context: Handle) -> Iterator[None]:
        """Calls inside refer to `context`; the thread's own is as it was afterwards."""
        self._call("cuCtxPushCurrent", context)
        try:
            yield
        finally:
            self._call("cuCtxPopCurrent")

    def synchronize_context(self) -> None:
        """Wait for everything in the current context, of other libraries as well."""
        self._call("cuCtxSynchronize")

    # -- streams and events ------------------------------------------------------------------------

    def new_stream(self, apart: bool = False) -> Handle:
        """A stream that waits for the legacy default stream, and that one for it; one `apart` does
        not.
        """
        flags = self.api.CUstream_flags
        flag = flags.CU_STREAM_NON_BLOCKING if apart else flags.CU_STREAM_DEFAULT
        return self._call("cuStreamCreate", int(flag))

    def stream(self, handle: int) -> Handle:
        """A stream of somebody else."""
        return self.api.CUstream(handle)

    def synchronize(self, stream: Handle) -> None:
        self._call("cuStreamSynchronize", stream)

    def record(self, stream: Handle) -> Handle:
        """A new event that comes to pass when everything on the stream so far is done."""
        flag = self.api.CUevent_flags.CU_EVENT_DISABLE_TIMING
        event = self._call("cuEventCreate", int(flag))
        try:
            self._call("cuEventRecord", event, stream)
        except CudaError:
            self._call("cuEventDestroy", event)
            raise
        return event

    def has_passed(self, event: Handle) -> bool:
        try:
            self._call("cuEventQuery", event)
        except CudaError as error:
            if error.name == _NOT_READY:
                return False
            raise
        return True

    def wait_for(self, event: Handle) -> None:
        """Wait on the host."""
        self._call("cuEventSynchronize", event)

    def make_wait(self, stream: Handle, event: Handle) -> None:
        """What is put on the stream from now on begins after the event."""
        self._call("cuStreamWaitEvent", stream, event, 0)

    def drop_event(self, event: Handle) -> None:
        self._call("cuEventDestroy", event)

    # -- memory ------------------------------------------------------------------------------------

    def keep_freed_memory(self, device: Handle, nbytes: int) -> None:
        """Let the pool of the device keep so many bytes that were given back to it, rather than
        return them to the system at each synchronisation.
        """
        pool = self._call("cuDeviceGetDefaultMemPool", device)
        attribute = self.api.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD
        self._call("cuMemPoolSetAttribute", pool, attribute, self.api.cuuint64_t(nbytes))

    def allocate(self, nbytes: int, stream: Handle) -> int:
        """The address of device memory, for use on the stream from this point on."""
        return int(self._call("cuMemAllocAsync", nbytes, stream))

    def free(self, address: int, stream: Handle) -> None:
        """Give memory back once everything on the stream so far is done."""
        self._call("cuMemFreeAsync", address, stream)

    def memory(self) -> tuple[int, int]:
        """Bytes of device memory that are free, and that there are."""
        return self._call("cuMemGetInfo")

    def allocate_pinned(self, nbytes: int) -> int:
        """The address of host memory that the device can copy from and to by itself."""
        return int(self._call("cuMemHostAlloc", nbytes, 0))

    def device_of(self, address: int) -> int:
        """The ordinal of the device whose memory lies at an address."""
        kind = self.api.CUpointer_attribute.CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL
        return int(self._call("cuPointerGetAttribute", kind, address))

    def upload(self, target: int, source: int, nbytes: int, stream: Handle) -> None:
        self._call("cuMemcpyHtoDAsync", target, source, nbytes, stream)

    def download(self, target: int, source: int, nbytes: int, stream: Handle) -> None:
        self._call("cuMemcpyDtoHAsync", target, source, nbytes, stream)

    def copy(self, target: int, source: int, nbytes: int, stream: Handle) -> None:
        self._call("cuMemcpyDtoDAsync", target, source, nbytes, stream)

    def clear(self, target: int, nbytes: int, stream: Handle) -> None:
        self._call("cuMemsetD8Async", target, 0, nbytes, stream)

    # -- kernels -----------------------------------------------------------------------------------

    def load(self, image: bytes) -> Handle:
        """A module, of a cubin or of PTX that ends in a zero byte."""
        return self._call("cuModuleLoadData", image)

    def unload(self, module: Handle) -> None:
        self._call("cuModuleUnload", module)

    def function(self, module: Handle, name: str) -> Handle:
        return self._call("cuModuleGetFunction", module, name.encode())

    def function_attribute(self, function: Handle, name: str) -> int:
        """An attribute by its name in the C API, without CU_FUNC_ATTRIBUTE_."""
        attribute = getattr(self.api.CUfunction_attribute, f"CU_FUNC_ATTRIBUTE_{name}")
        return self._call("cuFuncGetAttribute", attribute, function)

    def launch(
        self, function: Handle, blocks: int, threads: int, parameters: int, stream: Handle
    ) -> None:
        """Launch a row of blocks; `parameters` is the address of an array of the addresses of the
        arguments, which are read before this returns.
        """
        shape = (blocks, 1, 1, threads, 1, 1)
        self._call("cuLaunchKernel", function, *shape, 0, stream, parameters, 0)

    # -- graphs ------------------------------------------------------------------------------------

    @contextmanager
    def captured(self, stream: Handle) -> Iterator[list[Handle]]:
        """What is put on the stream inside is not done, but becomes a graph: the one item of the
        list afterwards.  The stream is as it was, also after an error.
        """
        mode = self.api.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL
        self._call("cuStreamBeginCapture", stream, mode)
        made: list[Handle] = []
        try:
            yield made
        except BaseException:
            self._abandon_capture(stream)
            raise
        made.append(self._call("cuStreamEndCapture", stream))

    def _abandon_capture(self, stream: Handle) -> None:
        try:
            graph = self._call("cuStreamEndCapture", stream)
        except CudaError:
            return  # what went wrong inside has ended the capture as well
        self._call("cuGraphDestroy", graph)

    def executable(self, graph: Handle) -> Handle:
        """A graph made ready to run; the graph itself is given up."""
        try:
            return self._call("cuGraphInstantiate", graph, 0)
        finally:
            self._call("cuGraphDestroy", graph)

    def run(self, executable: Handle, stream: Handle) -> None:
        self._call("cuGraphLaunch", executable, stream)

    def drop_executable(self, executable: Handle) -> None:
        self._call("cuGraphExecDestroy", executable)


def addresses(words: Sequence[int]) -> tuple[int, Any]:
    """The parameter array of a launch for arguments of 8 bytes each, and what must live until it is
    read.
    """
    import ctypes

    count = len(words)
    values = (ctypes.c_uint64 * count)(*(word % (1 << 64) for word in words))
    first = ctypes.addressof(values)
    pointers = (ctypes.c_void_p * count)(*(first + 8 * i for i in range(count)))
    return ctypes.addressof(pointers), (values, pointers)


__all__ = ["Bindings", "CudaError", "Driver", "Handle", "addresses", "bindings"]
