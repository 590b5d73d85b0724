"""How does a large product go to cuBLAS?  By the bindings of nvmath-python, if they are installed.

A library is never needed: without it, and for products that it would not gain by, graphc's own
kernels run. Products are in the accuracy of their dtype, no tensor-core formats stand in for it.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
from collections.abc import Sequence
from typing import Any

from graphc.codegen.cuda.product import Gemm
from graphc.runtime.cuda.device import Device, Lane, Memory
from graphc.runtime.cuda.driver import Handle
from graphc.runtime.cuda.frame import Span

WORKSPACE_BYTES = 32 << 20
_MISSING = "cuBLAS is not installed: pip install nvmath-python nvidia-cublas"
# The number type of elements (cudaDataType_t of library_types.h).
_DATA_TYPES = {"float32": 0, "float64": 1}
_SCALARS: dict[str, Any] = {"float32": ctypes.c_float, "float64": ctypes.c_double}


@functools.cache
def bindings() -> Any:
    """`nvmath.bindings.cublas`, or None where it is not installed."""
    try:
        return importlib.import_module("nvmath.bindings.cublas")
    except ImportError:
        return None


class Cublas:
    """The library for the streams of a device."""

    def __init__(self, api: Any, device: Device) -> None:
        self.api = api
        self.device = device
        self.handle = api.create()
        self._workspaces: dict[Lane, Memory] = {}
        self.calls = 0

    def workspace(self, lane: Lane) -> Span:
        """Where products on a lane have their workspace, reserved when it is first asked for: with
        one of its own the library allocates nothing, also inside of graphs.
        """
        if lane not in self._workspaces:
            memory = self.device.allocate(WORKSPACE_BYTES, "the workspace of cuBLAS")
            self._workspaces[lane] = memory
        address = self._workspaces[lane].address
        return address, address + WORKSPACE_BYTES, True

    def multiply(self, gemm: Gemm, dtype: str, addresses: Sequence[int], stream: Handle) -> None:
        """Put a product on a stream; `addresses` are those of left, right and out."""
        self.api.set_stream(self.handle, int(stream))
        # A change of stream takes the workspace away.
        start, _, _ = self.workspace(self.device.lane)
        self.api.set_workspace(self.handle, start, WORKSPACE_BYTES)
        left, right, out = addresses
        one, zero = _SCALARS[dtype](1), _SCALARS[dtype](0)
        kinds = [int(self.api.Operation.T if t else self.api.Operation.N) for t in gemm.transposed]
        compute = self.api.ComputeType
        type_, exact = _DATA_TYPES[dtype], compute.COMPUTE_32F
        if dtype == "float64":
            exact = compute.COMPUTE_64F
        self.api.gemm_strided_batched_ex(
            self.handle,
            *kinds,
            *gemm.sizes,
            ctypes.addressof(one),
            *(right, type_, gemm.leading[0], gemm.between[0]),
            *(left, type_, gemm.leading[1], gemm.between[1]),
            ctypes.addressof(zero),
            *(out, type_, gemm.leading[2], gemm.between[2]),
            gemm.batch,
            int(exact),
            int(self.api.GemmAlgo.DFALT),
        )
        self.calls += 1


_LOADED: dict[int, Cublas] = {}


def cublas(device: Device) -> Cublas | None:
    """The library for a device that is in use, one handle each; None where it is not installed."""
    api = bindings()
    if api is None:
        return None
    if id(device) not in _LOADED:
        _LOADED[id(device)] = Cublas(api, device)
    return _LOADED[id(device)]


def reason_missing() -> str:
    """Why there is no cuBLAS; empty if there is."""
    return _MISSING if bindings() is None else ""


__all__ = ["Cublas", "bindings", "cublas", "reason_missing"]
