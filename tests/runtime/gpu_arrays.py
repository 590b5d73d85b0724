"""How do arrays of other libraries look to graphc when they lie on a GPU?  Stand-ins of PyTorch,
CuPy, JAX and Numba, in memory of the stand-in for the driver.

Each has what graphc may look at of the library's arrays, with its quirks: which protocols there
are, what their arguments are called, how dtypes are spelled, what is raised. PyTorch and JAX were
read, and their capsules of CPU arrays taken, at 2.13 and 0.10; CuPy and Numba follow their
documentation. None of the libraries has been used on a GPU.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from graphc.runtime import dlpack
from tests.runtime import fake_cuda


class _Array:
    """Content on a GPU, made by work that waits on the library's stream."""

    def __init__(
        self, gpu: fake_cuda.FakeDriver, content: Any, stream: int, number: int = 0
    ) -> None:
        self._gpu = gpu
        self._array = fake_cuda.FakeArray(gpu, np.asarray(content), number)
        self._stream, self._number = stream, number
        made = self._array.buffer.bytes.copy()
        self._array.buffer.bytes[:] = 0xFF
        gpu._put(stream, lambda: self._array.buffer.bytes.__setitem__(slice(None), made))

    @property
    def shape(self) -> tuple[int, ...]:
        return self._array.content.shape

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def there(self) -> np.ndarray:
        """What the memory holds now."""
        return self._array.numpy()

    def _view(self, read_only: bool = False) -> dlpack.View:
        interface = self._array.__cuda_array_interface__
        return dlpack.View(
            interface["data"][0],
            (dlpack.CUDA, self._number),
            self._array.content.dtype,
            self.shape,
            interface["strides"],
            read_only,
            self._array,
        )

    def _order(self, stream: int) -> None:
        """What is put on `stream` from now on comes after what the library has put on its own."""
        mine = self._gpu.streams[self._stream]
        until = mine.put
        self._gpu._put(stream, lambda: mine.drain(until))


class TorchDtype:
    """A dtype that is none of NumPy's."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"torch.{self.name}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TorchDtype) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)


class Size(tuple):  # type: ignore[type-arg]
    """`torch.Size`"""


class TorchTensor(_Array):
    """`torch.Tensor` on "cuda"."""

    requires_grad = False

    @property
    def dtype(self) -> TorchDtype:
        return TorchDtype(self._array.content.dtype.name)

    @property
    def shape(self) -> tuple[int, ...]:
        return Size(self._array.content.shape)

    def __array__(self, dtype: Any = None) -> Any:
        raise TypeError("can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu()")

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def __cuda_array_interface__(self) -> Any:
        if self.requires_grad:
            raise RuntimeError("Can't get __cuda_array_interface__ on Variable that requires grad.")
        return {**self._array.__cuda_array_interface__, "version": 2}

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self._number

    def __dlpack__(
        self, *, stream: Any = -1, max_version: Any = None, dl_device: Any = None, copy: Any = None
    ) -> Any:
        if self.requires_grad:
            raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
        if stream is not None and type(stream) is not int:
            raise TypeError("stream must be ``int`` or ``none``")
        if stream is not None and stream != -1:
            self._order(stream)
        return dlpack.write(self._view(), max_version is not None and max_version[0] >= 1)


class OlderTorchTensor(TorchTensor):
    """Before DLPack had versions."""

    def __dlpack__(self, stream: Any = None) -> Any:  # type: ignore[override]
        return super().__dlpack__(stream=stream)


class _OfNumPy(_Array):
    """With NumPy's dtypes."""

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._array.content.dtype


class _WithCapsules(_OfNumPy):
    """By DLPack, ordered with the default stream if the consumer names none."""

    def __dlpack_device__(self) -> tuple[int, int]:
        return dlpack.CUDA, self._number

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: Any = None,
        dl_device: Any = None,
        copy: Any = None,
    ) -> Any:
        self._order(fake_cuda.LEGACY if stream is None else stream)
        return dlpack.write(self._view(), max_version is not None and max_version[0] >= 1)


class CupyArray(_WithCapsules):
    """`cupy.ndarray`"""

    def __array__(self, dtype: Any = None) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Use `.get()`")

    @property
    def __cuda_array_interface__(self) -> Any:
        return {**self._array.__cuda_array_interface__, "stream": self._stream}


class JaxArray(_WithCapsules):
    """`jax.Array`: nobody may write to it, though its capsules do not say so."""

    __module__ = "jaxlib._jax"

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        raise AssertionError("copied to the host")

    @property
    def __cuda_array_interface__(self) -> Any:
        if self.dtype.name == "bfloat16":
            raise AttributeError("__cuda_array_interface__ is not supported for bfloat16 buffers.")
        return self._array.__cuda_array_interface__


class NumbaArray(_OfNumPy):
    """`numba.cuda` device arrays: the one protocol only, with the stream that they are made on."""

    @property
    def __cuda_array_interface__(self) -> Any:
        return {**self._array.__cuda_array_interface__, "stream": self._stream}


KINDS = {
    kind.__name__: kind for kind in (TorchTensor, OlderTorchTensor, CupyArray, JaxArray, NumbaArray)
}

__all__ = ["KINDS", "CupyArray", "JaxArray", "NumbaArray", "OlderTorchTensor", "TorchTensor"]
