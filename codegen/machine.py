"""What must a kernel generator know about the processor that it writes for?

Tiles, block sizes and the choice between masks and scratch tiles all follow from the few facts
below, so a new processor needs a new `Machine`, not a new kernel. They are constants of the
generated text, so two machines with equal facts share cached objects.
"""

from __future__ import annotations

import functools
import pathlib
import platform
import re
from dataclasses import dataclass

import llvmlite.binding as llvm

KIB = 1024
MIB = 1024 * KIB

_CACHE_FOLDER = pathlib.Path("/sys/devices/system/cpu/cpu0/cache")
_DEFAULT_CACHES = (32 * KIB, 512 * KIB, 8 * MIB)
_SIZE_UNITS = {"": 1, "K": KIB, "M": MIB, "G": 1024 * MIB}


@dataclass(frozen=True)
class Machine:
    """The facts about one processor that generated code depends on.

    ``triple``, ``cpu`` and ``features`` are LLVM's words for the target (features as the
    comma-separated text that a target machine takes); cache sizes are in bytes, ``l3`` for the
    whole processor.
    """

    triple: str
    cpu: str
    features: str
    vector_bytes: int
    vector_registers: int
    has_fma: bool
    l1: int = _DEFAULT_CACHES[0]
    l2: int = _DEFAULT_CACHES[1]
    l3: int = _DEFAULT_CACHES[2]

    @property
    def has_masks(self) -> bool:
        """Whether loading or storing some lanes of a vector costs little more than all of them."""
        return self.vector_bytes == 64

    @property
    def converts_halves(self) -> bool:
        """Whether there are instructions between float16 and float32: F16C on x86."""
        named = self.cpu in ("x86-64-v3", "x86-64-v4")
        return named or "+f16c" in self.features or self.triple.startswith(("aarch64", "arm64"))

    @property
    def permuted_bytes(self) -> int:
        """Bytes of a register whose 32-bit words one instruction puts into any order, or 0: x86."""
        if not self.triple.startswith("x86_64"):
            return 0
        has_avx2 = self.cpu in ("x86-64-v3", "x86-64-v4") or "+avx2" in self.features
        return self.vector_bytes if has_avx2 else 0

    @property
    def has_tables(self) -> bool:
        """Whether a register holds a table of sixteen float32, so that one instruction looks up a
        vector of numbers. Where it takes two and a choice, arithmetic is cheaper.
        """
        return self.permuted_bytes == 64

    @property
    def rows_per_pointer(self) -> int:
        """How many rows with a common stride s are addressed well from one register.

        x86 adds an index once or twice, so [p], [p + s] and [p + 2 s]; AArch64 only once, but it
        has registers to keep 2 s and 3 s.
        """
        return 4 if self.triple.startswith(("aarch64", "arm64")) else 3

    @property
    def row_pointers(self) -> int:
        """For how many rows a loop can hold an address of its own in a register."""
        return 20 if self.triple.startswith(("aarch64", "arm64")) else 10

    @staticmethod
    @functools.cache
    def host() -> Machine:
        """The processor that this process runs on.

        Cache sizes come from sysfs, which only Linux has; elsewhere they are 32 KiB, 512 KiB and
        8 MiB, which suits every processor of the last ten years tolerably.
        """
        features = llvm.get_host_cpu_features()
        l1, l2, l3 = _cache_sizes()
        vector_bytes, registers, fma = _vector_unit(platform.machine(), features)
        return Machine(
            triple=llvm.get_process_triple(),
            cpu=llvm.get_host_cpu_name(),
            features=features.flatten(),
            vector_bytes=vector_bytes,
            vector_registers=registers,
            has_fma=fma,
            l1=l1,
            l2=l2,
            l3=l3,
        )

    @staticmethod
    def preset(name: str) -> Machine:
        """A named processor class: one of ``PRESETS``; raises `KeyError` for any other name."""
        return PRESETS[name]


PRESETS = {
    "sse2": Machine("x86_64-unknown-linux-gnu", "x86-64", "", 16, 16, False),
    "avx2": Machine("x86_64-unknown-linux-gnu", "x86-64-v3", "", 32, 16, True),
    "avx512": Machine(
        "x86_64-unknown-linux-gnu", "x86-64-v4", "", 64, 32, True, l2=MIB, l3=32 * MIB
    ),
    "neon": Machine("aarch64-unknown-linux-gnu", "generic", "+neon", 16, 32, True, l1=64 * KIB),
}


def _vector_unit(architecture: str, features: dict[str, bool]) -> tuple[int, int, bool]:
    """Bytes of a vector, number of vector registers, and whether there is a fused multiply-add."""
    if architecture.lower() in ("aarch64", "arm64"):
        return 16, 32, True  # NEON; its fused multiply-add is part of the base instruction set
    if features.get("avx512f"):
        return 64, 32, True
    if features.get("avx"):
        return 32, 16, bool(features.get("fma"))
    return 16, 16, False


def _cache_sizes() -> tuple[int, int, int]:
    """Sizes in bytes of the first three cache levels of processor 0."""
    sizes = list(_DEFAULT_CACHES)
    for index in sorted(_CACHE_FOLDER.glob("index*")):
        level = _read(index / "level")
        size = re.fullmatch(r"(\d+)([KMG]?)", _read(index / "size"))
        if _read(index / "type") == "Instruction" or size is None or level not in ("1", "2", "3"):
            continue
        sizes[int(level) - 1] = int(size[1]) * _SIZE_UNITS[size[2]]
    return sizes[0], sizes[1], sizes[2]


def _read(path: pathlib.Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
