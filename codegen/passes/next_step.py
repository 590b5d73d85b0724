"""What does a step of a loop ask for, so that the next need not wait?  Rows that no cache keeps.

Between two steps there is time: while a kernel of the body works on the rows of this step, memory
sends those of the next. It knows where they are, which the machine does not foresee: a row may be
one of a hundred megabytes that lies before the last one, and kernels run between them. What is
small enough to be in a cache from step to step is not asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphc.codegen.program import Launch, Statement
from graphc.dims import affine


def ask_for_next_step(
    body: Sequence[Statement], variable: str, reverse: bool, kept_bytes: int
) -> None:
    """Let kernels of a loop's body ask for what they will read in the next step, of arrays larger
    than a cache keeps; 0 bytes: nothing is asked for.
    """
    if not kept_bytes:
        return
    for launch in (statement for statement in body if isinstance(statement, Launch)):
        for buffer, operand in zip(launch.kernel.buffers, launch.operands, strict=True):
            size = operand.storage.bytes
            if isinstance(size, int) and size < kept_bytes:
                continue
            step = affine(operand.offset, variable)
            if step is not None and isinstance(step[0], int):
                buffer.next_step = step[0] * buffer.item_bytes * (-1 if reverse else 1)
