"""How many blocks of a kernel does a multiprocessor hold at a time?  By threads, registers, shared
memory and the number of blocks, whichever is used up first.

The limits are those of the table of compute capabilities in NVIDIA's CUDA C++ programming guide,
the units in which registers and shared memory are given out those of `cuda_occupancy.h`; a test
compares the two for every architecture here.
"""

from __future__ import annotations

from dataclasses import dataclass

WARP = 32


@dataclass(frozen=True)
class Multiprocessor:
    """What a multiprocessor has, by compute capability. Bytes of shared memory are those of all its
    blocks, of which each takes `reserved_bytes` more than its kernel asks for.
    """

    warps: int
    blocks: int
    shared_bytes: int
    registers: int = 1 << 16
    reserved_bytes: int = 1 << 10


MULTIPROCESSORS = {
    75: Multiprocessor(32, 16, 64 << 10, reserved_bytes=0),
    80: Multiprocessor(64, 32, 164 << 10),
    86: Multiprocessor(48, 16, 100 << 10),
    87: Multiprocessor(48, 16, 164 << 10),
    89: Multiprocessor(48, 24, 100 << 10),
    90: Multiprocessor(64, 32, 228 << 10),
    100: Multiprocessor(64, 32, 228 << 10),
    103: Multiprocessor(64, 32, 228 << 10),
    110: Multiprocessor(48, 24, 228 << 10),
    120: Multiprocessor(48, 24, 100 << 10),
    121: Multiprocessor(48, 24, 100 << 10),
}
# Registers are given to a warp, and shared memory to a block, in multiples of these.
REGISTER_UNIT, SHARED_UNIT = 256, 128
# A multiprocessor has this many parts, of which each has its share of the registers.
PARTS = 4


@dataclass(frozen=True)
class Occupancy:
    """Blocks and warps that a multiprocessor holds, of `most_warps`; `limit` says what ends it."""

    blocks: int
    warps: int
    most_warps: int
    limit: str

    @property
    def share(self) -> float:
        return self.warps / self.most_warps

    def __str__(self) -> str:
        return (
            f"{self.share:.0%} ({self.blocks} blocks, {self.warps} of {self.most_warps} warps; "
            f"limit: {self.limit})"
        )


def occupancy(arch: int, threads: int, registers: int, shared_bytes: int) -> Occupancy | None:
    """The occupancy of a kernel of so many threads a block, registers a thread, and shared bytes a
    block, on architecture `arch` (90 is sm_90). None for an architecture that is not in the table.
    """
    has = MULTIPROCESSORS.get(arch)
    if has is None:
        return None
    warps = _ceil(threads, WARP)
    limits = {
        "warps": has.warps // warps,
        "blocks": has.blocks,
        "registers": _by_registers(has, warps, registers),
        "shared memory": _by_shared(has, shared_bytes),
    }
    limit = min(limits, key=lambda name: limits[name])
    return Occupancy(limits[limit], limits[limit] * warps, has.warps, limit)


def _by_registers(has: Multiprocessor, warps: int, registers: int) -> int:
    if registers == 0:
        return has.blocks
    of_warp = _up(registers * WARP, REGISTER_UNIT)
    in_part = has.registers // PARTS // of_warp
    return in_part * PARTS // warps


def _by_shared(has: Multiprocessor, shared_bytes: int) -> int:
    of_block = _up(shared_bytes + has.reserved_bytes, SHARED_UNIT)
    return has.shared_bytes // of_block if of_block else has.blocks


def _ceil(value: int, unit: int) -> int:
    return -(-value // unit)


def _up(value: int, unit: int) -> int:
    return _ceil(value, unit) * unit


__all__ = ["MULTIPROCESSORS", "Multiprocessor", "Occupancy", "occupancy"]
