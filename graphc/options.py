"""Which choices does a user have when compiling? One frozen record; there is no global
configuration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

MATH = ("ieee", "real", "fast")
MOST_THREADS = 256
LIBRARIES = ("cublas", "lapack")


@dataclass(frozen=True)
class Options:
    """How to compile.

    `threads`: the most threads a call may use; None for the CPUs that the process may use. `math`:
    the laws that rewriting may rely on, "ieee" (same values), "real" (true over the reals) or
    "fast" (may lose stated accuracy: so do tanh, sigmoid and silu, see docs/ulp.md).
    `deterministic`: the same bits for any number of threads. `opt_level`: effort of machine-code
    generation, 0 to 3. `cache`: whether compiled code is kept on disk. `debug`: check every
    intermediate program against its rules. `exclude`: names of rewrite rules to leave out.
    `device`: the number of the GPU that target "cuda" runs on. `library`: None for graphc's own
    kernels; "lapack" leaves decompositions on the CPU to SciPy's LAPACK (extra "scipy") where they
    are so large that it is faster: last bits, and threads, are its own then (decision 16); "cublas"
    leaves plain products on a GPU to cuBLAS, where it is installed and they are large. Other
    targets run the kernels, whatever it says.
    `tensor_cores`: let a GPU's matrix units do large products of float32, with operands rounded to
    11 significant bits, and of 16-bit floats (compiled and emulated, never run on a GPU).
    """

    threads: int | None = None
    math: str = "ieee"
    deterministic: bool = True
    opt_level: int = 2
    cache: bool = True
    debug: bool = False
    exclude: frozenset[str] = frozenset()
    device: int = 0
    tensor_cores: bool = False
    library: str | None = None

    def __post_init__(self) -> None:
        if self.math not in MATH:
            raise ValueError(f"math is one of {MATH}, got {self.math!r}")
        threads = self.threads
        if threads is not None and (type(threads) is not int or not 1 <= threads <= MOST_THREADS):
            raise ValueError(f"threads is an int from 1 to {MOST_THREADS} or None, got {threads!r}")
        if type(self.opt_level) is not int or not 0 <= self.opt_level <= 3:
            raise ValueError(f"opt_level is 0, 1, 2 or 3, got {self.opt_level!r}")
        for name in ("deterministic", "cache", "debug", "tensor_cores"):
            if type(getattr(self, name)) is not bool:
                raise ValueError(f"{name} is True or False, got {getattr(self, name)!r}")
        if type(self.device) is not int or self.device < 0:
            raise ValueError(f"device is the number of a GPU, from 0, got {self.device!r}")
        if self.library is not None and self.library not in LIBRARIES:
            raise ValueError(f"library is one of {LIBRARIES} or None, got {self.library!r}")
        if isinstance(self.exclude, str):
            raise ValueError(f"exclude is a set of names of rules, got {self.exclude!r}")
        object.__setattr__(self, "exclude", frozenset(self.exclude))

    def replace(self, **changes: Any) -> Options:
        """A copy with some choices changed."""
        return replace(self, **changes)
