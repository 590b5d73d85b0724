"""How do several kernels become one launch?  Each is a function, to which some of the blocks go.

The kernel looks at the number of its block, and calls the function of the part that the block
belongs to. Parts with one text and equally many blocks are called in one place, with the pointers
chosen by the part, so that their code is there once. All parts use the same shared memory.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from graphc.codegen.cuda.kernel import CudaKernel, Parameter, launch_bounds
from graphc.codegen.cuda.plan import Size
from graphc.dims import Extent

# Threads of a block of such a launch.
PART_BLOCK = 256
# Names of parts in that of the kernel.
_NAMED = 3


@dataclass(frozen=True)
class Part:
    """A function of the device, the arguments of this part, and its number of blocks."""

    function: CudaKernel
    arguments: tuple[Any, ...]
    grid: Extent


class Parameters:
    """The parameters of a function: what several that it calls take is there once."""

    def __init__(self) -> None:
        self.found: dict[tuple[Any, str], Parameter] = {}

    def name(self, argument: Any, like: Parameter) -> str:
        key = (argument, like.type)
        if key not in self.found:
            stem = {"status": "status", "buffer": "p"}.get(like.kind, like.kind)
            name = stem if stem == "status" else f"{stem}{len(self.found)}"
            self.found[key] = Parameter(like.kind, name, like.type)
        return self.found[key].name


def joined_kernel(parts: Sequence[Part]) -> tuple[CudaKernel, list[Any], Extent]:
    """The kernel of several parts, its arguments, and its number of blocks."""
    parts = [part for part in parts if part.grid != 0] or parts[:1]
    parameters = Parameters()
    lines: list[str] = []
    before: Extent = 0
    shared = max(part.function.shared_bytes for part in parts)
    ordered = sorted(parts, key=lambda part: part.function.name)  # equal ones next to each other
    groups = [
        list(group)
        for _, group in itertools.groupby(ordered, lambda part: (part.function.name, part.grid))
    ]
    for position, group in enumerate(groups):
        each, after = group[0].grid, before + group[0].grid * len(group)
        last = position == len(groups) - 1
        begin = size_text(before, parameters)
        block = "(int)blockIdx.x" if before == 0 else f"(int)blockIdx.x - {begin}"
        chosen = ""
        if len(group) > 1:
            lines += [f"        const int part = ({block}) / {size_text(each, parameters)};"]
            block, chosen = f"({block}) % {size_text(each, parameters)}", "part"
        arguments = _arguments(group, parameters, chosen)
        arguments += [block, size_text(each, parameters)]
        arguments += ["shared"] if group[0].function.shared_bytes else []
        opening = "    } else " if position else "    "
        test = "{" if last else f"if (blockIdx.x < {size_text(after, parameters)}) {{"
        at = len(lines) - (len(group) > 1)
        lines.insert(at, f"{opening}{test}")
        listed = ",\n            ".join(arguments)
        lines.append(f"        {group[0].function.name}(\n            {listed});")
        before = after
    lines.append("    }")
    if shared:
        lines.insert(0, f"    __shared__ __align__(16) unsigned char shared[{shared}];")
    return _kernel(groups, parameters, lines, shared), [a for a, _ in parameters.found], before


def _kernel(
    groups: Sequence[Sequence[Part]], parameters: Parameters, lines: list[str], shared: int
) -> CudaKernel:
    functions = {group[0].function.name: group[0].function for group in groups}
    helpers: dict[str, str] = {}
    for function in functions.values():
        helpers |= function.helpers
    helpers |= {name: function.text for name, function in functions.items()}
    found = tuple(parameters.found.values())
    listed = ",\n    ".join(f"{p.type} {p.name}" for p in found)
    body = "\n".join(["{", *lines, "}"])
    digest = hashlib.blake2b("\0".join([listed, body, *helpers]).encode(), digest_size=5)
    titles = list(dict.fromkeys(name.rsplit("_", 1)[0].split("_")[0] for name in functions))
    name = f"{'_and_'.join(titles[:_NAMED])}_{digest.hexdigest()}"
    stated = [f.resident for f in functions.values() if f.resident is not None]
    bounds = launch_bounds(PART_BLOCK, min(stated, default=None))
    head = f'extern "C" __global__ void {bounds} {name}(\n    {listed})'
    failing = any(function.can_fail for function in functions.values())
    return CudaKernel(name, PART_BLOCK, shared, found, f"{head}\n{body}", helpers, failing)


def _arguments(group: Sequence[Part], parameters: Parameters, chosen: str) -> list[str]:
    """The arguments of a call, chosen by the number of the part where they differ."""
    found = []
    for position, like in enumerate(group[0].function.parameters):
        names = [parameters.name(part.arguments[position], like) for part in group]
        text = names[-1]
        if len(set(names)) > 1:
            for number in range(len(names) - 2, -1, -1):
                text = f"{chosen} == {number} ? {names[number]} : {text}"
        found.append(text)
    return found


def size_text(extent: Extent, parameters: Parameters) -> str:
    """A number of blocks, as a literal or a parameter."""
    if isinstance(extent, int):
        return str(extent)
    return f"(int){parameters.name(Size(extent), Parameter('extent', 'blocks', 'long long'))}"


__all__ = ["PART_BLOCK", "Parameters", "Part", "joined_kernel", "size_text"]
