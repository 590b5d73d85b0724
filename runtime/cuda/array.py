"""How do arrays on a GPU come into a call and out of it?  Without copies, by the two protocols.

What has `__dlpack__` or `__cuda_array_interface__` and lies on a GPU is read where it is: arrays of
CuPy, PyTorch, JAX, Numba, and `DeviceArray`, which is what graphc returns and which has both. The
first protocol has the producer order its work before our stream; of the second the stream is read
and waited for.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from graphc.dtypes import as_dtype
from graphc.errors import GraphError
from graphc.runtime.cuda.device import Device, Lane, Memory
from graphc.runtime.cuda.driver import CudaError
from graphc.runtime.cuda.stream import LEGACY_STREAM
from graphc.runtime.dlpack import CUDA, CUDA_MANAGED, View, contiguous_strides, is_contiguous
from graphc.runtime.dlpack import VERSION as DLPACK_VERSION
from graphc.runtime.dlpack import read as read_capsule
from graphc.runtime.dlpack import write as write_capsule

_NO_STREAM = -1  # a consumer that orders by itself
_INTERFACE_VERSION = 3


class DeviceArray:
    """An array on a GPU, in C order: what a Function compiled for "cuda" returns for such arrays.

    Its values may still be on their way: CuPy, PyTorch, JAX and graphc wait for them on the device.
    `numpy()`, or `np.asarray`, waits and copies.
    """

    __slots__ = ("_memory", "address", "dtype", "shape")

    def __init__(
        self, memory: Memory, address: int, shape: tuple[int, ...], dtype: np.dtype[Any]
    ) -> None:
        self._memory = memory
        self.address = address
        self.shape = shape
        self.dtype = dtype

    @property
    def device(self) -> int:
        """The number of the GPU that it lies on."""
        return self._memory.device.ordinal

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    def written_on(self, lane: Lane) -> None:
        """Note that its values are those that `lane` gives it."""
        self._memory.lane = lane

    def numpy(self) -> np.ndarray:
        """A copy on the host, once the values are there."""
        result = np.empty(self.shape, self.dtype)
        device = self._memory.device
        with device.in_use(lane=self._memory.lane):
            device.staging.download(result, self.address)
        return result

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("an array on a GPU becomes an ndarray by copying only")
        array = self.numpy()
        return array if dtype is None else array.astype(dtype, copy=False)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("an array of rank 0 has no length")
        return self.shape[0]

    def __repr__(self) -> str:
        return f"DeviceArray(cuda:{self.device}, {self.dtype}, {self.shape})\n{self.numpy()!r}"

    # -- protocols ---------------------------------------------------------------------------------

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.dtype.isbuiltin != 1:  # bfloat16 is none of NumPy's own
            raise AttributeError(f"__cuda_array_interface__ has no {self.dtype}: use DLPack")
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address if self.size else 0, False),
            "strides": None,
            "version": _INTERFACE_VERSION,
            "stream": int(self._memory.lane.stream),
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return CUDA, self.device

    def __dlpack__(
        self,
        *,
        stream: int | None = None,
        max_version: tuple[int, int] | None = None,
        dl_device: tuple[int, int] | None = None,
        copy: bool | None = None,
    ) -> Any:
        if copy or (dl_device is not None and tuple(dl_device) != self.__dlpack_device__()):
            raise BufferError(f"this array is given out where it lies, on cuda:{self.device}")
        if stream != _NO_STREAM:
            device = self._memory.device
            with device.in_use(lane=self._memory.lane):
                device.make_stream_wait(stream or LEGACY_STREAM)
        return write_capsule(self._view(), max_version is not None and max_version[0] >= 1)

    def _view(self) -> View:
        strides = contiguous_strides(self.shape, self.dtype.itemsize)
        place = CUDA, self.device
        return View(self.address, place, self.dtype, self.shape, strides, False, self._memory)


@dataclasses.dataclass(frozen=True)
class Given:
    """An argument that lies on a GPU. `ndim` and `shape` are read as an ndarray's."""

    view: View

    @property
    def shape(self) -> tuple[int, ...]:
        return self.view.shape

    @property
    def ndim(self) -> int:
        return len(self.view.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.view.dtype

    @property
    def is_contiguous(self) -> bool:
        return is_contiguous(self.shape, self.view.strides, self.dtype.itemsize)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    def span(self) -> tuple[int, int]:
        """The addresses between which its bytes lie."""
        low = high = self.view.address
        for extent, stride in zip(self.shape, self.view.strides, strict=True):
            if extent == 0:
                return low, low
            reach = (extent - 1) * stride
            low, high = low + min(reach, 0), high + max(reach, 0)
        return low, high + self.dtype.itemsize


def on_device(value: Any, device: Device) -> Given | None:
    """The argument as it lies on a GPU, after whatever makes it; None if it does not lie on one.

    Raises ValueError for an array on another GPU, TypeError for elements that graphc cannot take.
    """
    if isinstance(value, (np.ndarray, np.generic, int, float, complex, str, list, tuple)):
        return None
    if isinstance(value, DeviceArray):
        _check_device(value.device, device)
        device.come_after(value._memory)
        return Given(value._view())
    kind, number = _dlpack_device(value)
    if kind in (CUDA, CUDA_MANAGED):
        _check_device(number, device)
        return _given(read_capsule(_exported(value, int(device.stream))), value)
    interface = getattr(value, "__cuda_array_interface__", None)
    return None if interface is None else _given(_from_interface(interface, value, device), value)


# Libraries whose arrays nobody may change, though their capsules do not say so.
_IMMUTABLE = ("jax", "jaxlib")


def _given(view: View, value: Any) -> Given:
    size = view.dtype.itemsize
    if any(stride % size for stride in view.strides):
        raise ValueError(f"its strides {view.strides} are not all multiples of {size}")
    library = type(value).__module__.partition(".")[0]
    return Given(dataclasses.replace(view, read_only=view.read_only or library in _IMMUTABLE))


def _dlpack_device(value: Any) -> tuple[int, int]:
    """Kind and number of the device that an object says it is on; (0, 0) if it does not say."""
    if not hasattr(value, "__dlpack__") or not hasattr(value, "__dlpack_device__"):
        return 0, 0
    kind, number = value.__dlpack_device__()
    return int(kind), int(number)


def _exported(value: Any, stream: int) -> Any:
    """The capsule of an array, for use on a stream: of the form that tells read-only arrays apart,
    if its library knows that.
    """
    try:
        return value.__dlpack__(stream=stream, max_version=DLPACK_VERSION)
    except TypeError:  # a library older than the argument
        return value.__dlpack__(stream=stream)


def _from_interface(interface: dict[str, Any], owner: Any, device: Device) -> View:
    try:
        elements, (address, read_only) = np.dtype(interface["typestr"]), interface["data"]
        shape = tuple(int(extent) for extent in interface["shape"])
    except (TypeError, ValueError, KeyError) as error:
        text = f"its __cuda_array_interface__ has no typestr, shape and data as it should: {error}"
        raise TypeError(text) from None
    if interface.get("mask") is not None:
        raise TypeError("a masked array on a GPU: fill it first")
    if not elements.isnative:
        raise TypeError("its elements are in the other byte order\nconvert them before the call")
    try:
        dtype = as_dtype(elements)
    except GraphError as error:
        raise TypeError(str(error)) from None
    if any(extent < 0 for extent in shape):
        raise ValueError(f"its shape {shape} has a negative extent")
    strides = interface.get("strides")
    steps = contiguous_strides(shape, dtype.itemsize) if strides is None else tuple(strides)
    if len(steps) != len(shape):
        raise ValueError(f"it has {len(steps)} strides for {len(shape)} axes")
    if address:
        _check_device(_device_of(address, device), device)
    elif math.prod(shape):
        raise ValueError("it has elements and no address")
    stream = interface.get("stream")
    if stream is not None:
        device.wait_for_stream(stream)
    place = CUDA, device.ordinal
    return View(address or 0, place, dtype, shape, steps, bool(read_only), owner)


def _device_of(address: int, device: Device) -> int:
    try:
        return device.driver.device_of(address)
    except CudaError as error:
        if error.is_sticky:
            raise
        raise ValueError(
            f"its address {address:#x} is no memory of a GPU\nwas it freed?  {error}"
        ) from None


def _check_device(number: int, device: Device) -> None:
    if number != device.ordinal:
        raise ValueError(
            f"the array is on cuda:{number}, the Function runs on cuda:{device.ordinal}\n"
            f"Copy it there, or compile with Options(device={number})."
        )


__all__ = ["DeviceArray", "Given", "on_device"]
