"""Whose stream is a call ordered with?  One that the caller names, by the protocol of libraries.

A stream of CUDA is known by its handle, an integer. `cuda.core`, and newer CuPy and PyTorch, have
objects for it with `__cuda_stream__()`, which gives a version and the handle.
"""

from __future__ import annotations

import contextlib
import operator
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

_VERSION = 0
_CALLERS: ContextVar[int | None] = ContextVar("graphc_cuda_stream", default=None)
# What the handle 0 stands for: the legacy default stream.
LEGACY_STREAM = 1


@contextlib.contextmanager
def cuda_stream(stream: Any) -> Iterator[None]:
    """Inside, calls of Functions for "cuda" are ordered with `stream`: they begin after what has
    been put on it, and what is put on it afterwards begins when they are done. Nobody waits.

    `stream` is a handle (an integer: `cupy.cuda.Stream.ptr`, `torch.cuda.Stream.cuda_stream`), or
    an object with `__cuda_stream__`; None takes back what a block around says. Calls with different
    streams may run at the same time. Raises TypeError or ValueError for what is no stream.
    """
    token = _CALLERS.set(None if stream is None else handle_of(stream))
    try:
        yield
    finally:
        _CALLERS.reset(token)


def callers_stream() -> int | None:
    """The handle of the stream of the innermost block around; None if there is none."""
    return _CALLERS.get()


def handle_of(stream: Any) -> int:
    """The handle of a stream, given as an integer or by `__cuda_stream__`."""
    protocol = getattr(stream, "__cuda_stream__", None)
    if protocol is not None:
        version, handle = protocol() if callable(protocol) else protocol
        if version != _VERSION:
            raise ValueError(
                f"__cuda_stream__ of a {type(stream).__name__} is of version {version}; "
                f"{_VERSION} is known"
            )
        stream = handle
    if isinstance(stream, bool) or not hasattr(stream, "__index__"):
        raise TypeError(
            f"a stream is its handle, an integer, or has __cuda_stream__; "
            f"got a {type(stream).__name__}"
        )
    handle = operator.index(stream)
    if handle < 0:
        raise ValueError(f"the handle of a stream is not negative, got {handle}")
    return handle or LEGACY_STREAM


__all__ = ["LEGACY_STREAM", "callers_stream", "cuda_stream", "handle_of"]
