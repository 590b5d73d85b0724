"""When does a loop look whether it should stop?  Between blocks of iterations, and how.

A call can be cancelled while a kernel runs. A loop that may take long goes over its iterations in
blocks, a loop around the loop; between two blocks it looks at the status record and leaves the
kernel if the call has been stopped.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphc.codegen.llvm.level import Level
from graphc.codegen.llvm.values import Values
from graphc.codegen.loops import Kernel
from graphc.codegen.scalar import For, Value, loops_in, walk
from graphc.codegen.status import Status

# A loop inside a task looks whether it should stop once in so many steps: some ten microseconds. A
# step that holds a loop counts for many.
PAUSE_STEPS = 16_384
PAUSE_STEPS_OF_LOOPS = 128
# Kernels of more values never pause: the call, though it is rare, would push the many constants of
# `exp` and its like out of registers, a tenth of the time of a softmax.
PAUSE_BELOW = 24


def steps_between_pauses(loop: For) -> int:
    """Of a loop inside a task, how many steps it makes before it looks whether to stop."""
    holds_loops = any(isinstance(s, For) for s in loop.body.statements)
    return PAUSE_STEPS_OF_LOOPS if holds_loops else PAUSE_STEPS


def may_run_long(kernel: Kernel) -> bool:
    """Whether one task of a loop nest may be stopped half-way: some loop of it pauses, or could."""
    nest = kernel.nest
    if not isinstance(nest, For):
        return False
    if all(map(is_short, loops_in(nest.body))):
        return False
    return sum([type(s) is Value for s in walk(nest.body)]) <= PAUSE_BELOW


def is_short(loop: For, step: int = 1) -> bool:
    """Whether it is known that a loop ends before it would pause."""
    static = isinstance(loop.start, int) and isinstance(loop.stop, int)
    return static and loop.stop - loop.start <= steps_between_pauses(loop) * step  # type: ignore[operator]


class Pauses:
    """The pauses of one function. `words` are those of its frame, `worker` is who runs it.

    A function that was not opened to them has nobody to ask and never pauses.
    """

    def __init__(self, values: Values, words: Mapping[str, str], worker: str) -> None:
        self.values = values
        self.words = words
        self.worker = worker
        self.allowed = False
        self.used = False

    def wanted(self, loop: For, step: int) -> bool:
        """Whether a loop by `step` pauses."""
        return self.allowed and loop.role != "parallel" and not is_short(loop, step)

    def block_end(self, level: Level, name: str, start: str, stop: str, block: int) -> None:
        """Where a loop that is at `start` pauses next, under a name."""
        self.values.declarations.add("declare i64 @llvm.smin.i64(i64, i64)")
        rest, size = self.values.fresh(), self.values.fresh()
        level.put(f"{rest} = sub i64 {stop}, {start}")  # start + block could overflow
        level.put(f"{size} = call i64 @llvm.smin.i64(i64 {rest}, i64 {block})")
        level.put(f"{name} = add i64 {start}, {size}")

    def ask(self, level: Level, tag: int, position: str, stop: str) -> None:
        """Between two blocks of iterations: leave the kernel if the call has been stopped.

        Nothing after the loop runs then: half an accumulator may be no position of anything. The
        weights keep what the call costs, registers that it spoils, out of the iterations.
        """
        self.used = True
        more, stopped = self.values.fresh("c"), self.values.fresh("c")
        level.label(f"pause{tag}")
        level.put(f"{more} = icmp slt i64 {position}, {stop}")
        level.put(f"br i1 {more}, label %ask{tag}, label %exit{tag}, !prof !2")
        level.label(f"ask{tag}")
        status, words = self.words["status"], []
        level.put(f"call void @pause(ptr {status}, i64 {self.worker})")
        for word in (Status.CODE, Status.CANCEL):
            at, value = self.values.fresh(), self.values.fresh()
            level.put(f"{at} = getelementptr i64, ptr {status}, i64 {word.value}")
            level.put(f"{value} = load atomic i64, ptr {at} monotonic, align 8")
            words.append(value)
        either = self.values.fresh()
        level.put(f"{either} = or i64 {words[0]}, {words[1]}")
        level.put(f"{stopped} = icmp ne i64 {either}, 0")
        level.put(f"br i1 {stopped}, label %stopped, label %go{tag}, !prof !2")
        level.label(f"go{tag}")
        level.put(f"br label %block{tag}")


# The thread that calls, no other, asks Python for signals.
PAUSE = f"""
define internal void @pause(ptr %status, i64 %worker) noinline cold nounwind {{
entry:
  %poll_at = getelementptr i64, ptr %status, i64 {Status.POLL.value}
  %poll = load ptr, ptr %poll_at, align 8
  %can = icmp ne ptr %poll, null
  %calls = icmp eq i64 %worker, 0
  %asks = and i1 %can, %calls
  br i1 %asks, label %ask, label %done
ask:
  call void %poll(ptr %status)
  br label %done
done:
  ret void
}}
"""
