"""What does a kernel, or a whole program, mean?  The three kernel languages, run in NumPy.

This is the reference for every printer: it separates faults of lowering from faults of printing.
Iterations that may run in any order run in lockstep, one NumPy call an instruction; a `Context` is
a set of such iterations, and a value in it is one number for all of them or an array with one for
each. Lockstep is only one of the orders that the language allows, so a `Ledger` notes who touched
each element of the memory that a kernel writes: an access whose result depends on the order is an
error, and so is one out of bounds or of scratch that nobody wrote. What runs here without an error
means the same in any order.

- `kernel`: one kernel; `program`: a program, with its memory as planned;
- `context`: iterations in lockstep; `memory`: arrays, and who touched them; `states`: what
  accumulators hold; `faults`: what can go wrong.
"""

from __future__ import annotations

from graphc.codegen.interpret.faults import Failure, InterpreterError
from graphc.codegen.interpret.kernel import run_kernel
from graphc.codegen.interpret.program import run_program

__all__ = ["Failure", "InterpreterError", "run_kernel", "run_program"]
