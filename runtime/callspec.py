"""What does a compiled program expect of a call, and what does it return?

A `CallSpec` says it in the terms of decision 3: dtypes, shapes whose extents are constants or
slots, and addresses. A `Plan` is the same in the words of the entry (`runtime.descriptor`), which
the call in Python reads as well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from graphc.runtime.descriptor import Axis

Extent = int | tuple[Literal["free", "slot"], int]
"""A constant, or a slot: `("free", s)` binds it from the argument (and is compared where it is
bound already), `("slot", s)` must equal it.
"""

RELEASE_THRESHOLD = 32_768
"""Estimated element operations above which a call releases the GIL: some ten microseconds."""

MAX_RANK = 64
"""NumPy's limit, which the entry relies on."""


@dataclass(frozen=True)
class Input:
    """One argument: `origin` is where it was declared, as `file:line`, or empty."""

    name: str
    dtype: np.dtype
    shape: tuple[Extent, ...]
    origin: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", _canonical(self.dtype))


@dataclass(frozen=True)
class Output:
    """One result: a new C-contiguous array of this dtype and shape."""

    dtype: np.dtype
    shape: tuple[Extent, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "dtype", _canonical(self.dtype))


def _canonical(dtype: np.dtype) -> np.dtype:
    """NumPy's own object for the dtype, since the entry compares objects first; in native byte
    order.
    """
    dtype = np.dtype(dtype)
    if dtype.hasobject or not dtype.isnative:
        raise ValueError(f"programs take numbers in native byte order, not {dtype}")
    own = np.dtype(dtype.type)
    return own if own == dtype else dtype


@dataclass(frozen=True)
class CallSpec:
    """What a compiled program expects and returns, in the terms of decision 3.

    `slots` are the initial values of the extent slots, with 0 for those that arguments bind or
    `extents` derives; `constants` of them, the last, are neither bound nor derived. `contiguous`,
    `strided` and `extents` are addresses, 0 for none. `workspace_slot` and `work_slot` are the
    slots that hold the bytes of workspace and the estimated element operations; None stands for 0.
    `donated` maps an input to the output that is made of it. `packing` says how the flat results
    are returned: the only one as it is, a tuple, a list, or whatever a callable makes of their
    tuple. `slot_names` name extents in messages.
    """

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    contiguous: int
    name: str = "f"
    slots: tuple[int, ...] = ()
    constants: int = 0
    strided: int = 0
    extents: int = 0
    workspace_slot: int | None = None
    work_slot: int | None = None
    donated: Mapping[int, int] = field(default_factory=dict)
    packing: Literal["single", "tuple", "list"] | Callable[[tuple], Any] = "single"
    release_threshold: int = RELEASE_THRESHOLD
    slot_names: Mapping[int, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.packing == "single" and len(self.outputs) != 1:
            raise ValueError(f"packing 'single' needs one output, there are {len(self.outputs)}")
        if len(set(self.donated.values())) != len(self.donated):
            raise ValueError("two inputs are donated to the same output")
        for giver, receiver in self.donated.items():
            given, made = self.inputs[giver], self.outputs[receiver]
            if given.dtype != made.dtype or _slots_of(given.shape) != _slots_of(made.shape):
                raise ValueError(f"input {given.name} is donated to an output of another type")
        shapes = [entry.shape for entry in self.inputs] + [entry.shape for entry in self.outputs]
        used = {slot for shape in shapes for slot in _slots_of(shape)}
        sizes = (self.workspace_slot, self.work_slot)
        used |= {("slot", slot) for slot in sizes if slot is not None}
        if any(not 0 <= slot < len(self.slots) for kind, slot in used if kind == "slot"):
            raise ValueError(f"a slot lies outside the {len(self.slots)} slots")
        if any(len(shape) > MAX_RANK for shape in shapes):
            raise ValueError(f"an array has more than {MAX_RANK} axes")


def _slots_of(shape: Sequence[Extent]) -> list[tuple[str, int]]:
    """The shape with bound and compared slots alike."""
    return [("constant", e) if isinstance(e, int) else ("slot", e[1]) for e in shape]


@dataclass(frozen=True)
class Plan:
    """The spec's axes as the entry reads them, shared by the slow path.

    Extra slots follow those of the spec: one for each axis that must equal a slot which is not
    known yet when the axis is read, and a constant 0 for absent workspace and work.
    """

    inputs: list[list[tuple[Axis, int]]]
    outputs: list[list[tuple[Axis, int]]]
    slots: list[int]
    constant: bool
    equalities: list[tuple[int, int]]
    binders: dict[int, tuple[int, int]]
    """Slot -> (input, axis) that binds it."""
    workspace_slot: int
    work_slot: int

    @classmethod
    def of(cls, spec: CallSpec) -> Plan:
        slots = list(spec.slots)
        free = {
            extent[1]
            for entry in spec.inputs
            for extent in entry.shape
            if not isinstance(extent, int) and extent[0] == "free"
        }
        equalities: list[tuple[int, int]] = []
        binders: dict[int, tuple[int, int]] = {}

        def new_slot() -> int:
            slots.append(0)
            return len(slots) - 1

        def read(position: int, axis: int, extent: Extent) -> tuple[Axis, int]:
            if isinstance(extent, int):
                return Axis.CONSTANT, extent
            kind, slot = extent
            initial = not spec.extents and slot not in free
            if slot in binders or (initial and kind == "slot"):
                return Axis.SAME, slot
            if kind == "free":
                binders[slot] = position, axis
                return Axis.BIND, slot
            waiting = new_slot()
            equalities.append((waiting, slot))
            binders[waiting] = position, axis
            return Axis.BIND, waiting

        inputs = [
            [read(position, axis, extent) for axis, extent in enumerate(entry.shape)]
            for position, entry in enumerate(spec.inputs)
        ]
        outputs = [
            [
                (Axis.CONSTANT, extent) if isinstance(extent, int) else (Axis.SAME, extent[1])
                for extent in entry.shape
            ]
            for entry in spec.outputs
        ]
        absent = new_slot() if None in (spec.workspace_slot, spec.work_slot) else 0
        return cls(
            inputs=inputs,
            outputs=outputs,
            slots=slots,
            constant=not binders and not spec.extents,
            equalities=equalities,
            binders=binders,
            workspace_slot=absent if spec.workspace_slot is None else spec.workspace_slot,
            work_slot=absent if spec.work_slot is None else spec.work_slot,
        )
