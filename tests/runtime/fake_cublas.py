"""What stands in for cuBLAS in tests: the functions of `nvmath.bindings.cublas` that graphc calls,
on the memory and streams of the stand-in for the driver.
"""

from __future__ import annotations

import ctypes
from enum import IntEnum
from typing import Any

import numpy as np

from tests.runtime.fake_cuda import FakeDriver, Misuse


class Operation(IntEnum):
    N = 0
    T = 1


class ComputeType(IntEnum):
    COMPUTE_32F = 68
    COMPUTE_64F = 70


class GemmAlgo(IntEnum):
    DFALT = -1


class FakeCublas:
    """One library; `products` are what it was asked to multiply."""

    Operation, ComputeType, GemmAlgo = Operation, ComputeType, GemmAlgo

    def __init__(self, driver: FakeDriver) -> None:
        self.driver = driver
        self.stream = self.workspace = 0
        self.products: list[tuple[Any, ...]] = []
        self.workspaces: list[int] = []  # of each product

    def create(self) -> int:
        return 77

    def set_stream(self, handle: int, stream_id: int) -> None:
        self.stream, self.workspace = stream_id, 0

    def set_workspace(self, handle: int, workspace: int, size: int) -> None:
        self.driver.find(workspace, size)
        self.workspace = workspace

    def gemm_strided_batched_ex(
        self, handle: int, transa: int, transb: int, m: int, n: int, k: int, alpha: int, a: int,
        atype: int, lda: int, stride_a: int, b: int, btype: int, ldb: int, stride_b: int, beta: int,
        c: int, ctype: int, ldc: int, stride_c: int, batch_count: int, compute_type: int, algo: int,
    ) -> None:  # fmt: skip
        assert atype == btype == ctype and handle == 77
        if not self.workspace:
            raise Misuse("the library would allocate")
        dtype = {0: np.dtype("f4"), 1: np.dtype("f8")}[atype]
        scalar = {0: ctypes.c_float, 1: ctypes.c_double}[atype]
        scales = scalar.from_address(alpha).value, scalar.from_address(beta).value
        if scales != (1.0, 0.0) or ldc < m:
            raise Misuse("scales, or a leading dimension that is too small")
        self.products.append((transa, transb, m, n, k, lda, ldb, ldc, batch_count))
        self.workspaces.append(self.workspace)

        def run() -> None:
            for i in range(batch_count):
                left = self._matrix(a, i * stride_a, lda, (k, m) if transa else (m, k), dtype)
                right = self._matrix(b, i * stride_b, ldb, (n, k) if transb else (k, n), dtype)
                out = self._matrix(c, i * stride_c, ldc, (m, n), dtype)
                out[...] = (left.T if transa else left) @ (right.T if transb else right)

        self.driver._put(self.stream, run)

    def _matrix(self, address: int, start: int, leading: int, shape: Any, dtype: Any) -> np.ndarray:
        """A matrix by columns."""
        rows, columns = shape
        if leading < rows:
            raise Misuse("a leading dimension is smaller than a column")
        size = ((columns - 1) * leading + rows) * dtype.itemsize
        flat = self.driver._bytes(address + start * dtype.itemsize, size).view(dtype)
        strides = dtype.itemsize, leading * dtype.itemsize
        return np.lib.stride_tricks.as_strided(flat, (rows, columns), strides)
