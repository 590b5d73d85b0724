"""How are programs written as CUDA C++?

- `program`: the translation unit; `plan`: what a host launches, with which arguments; `launcher`:
  the same as C++, for programs without graphc;
- `kernel`: a loop nest, by what `known` finds out about it; `lanes`: which thread does what;
  `columns`: reductions of columns;
- `contract`: a contraction; `tensor`: by matrix units; `chain`: several, handed on in registers;
  `product`: one that a library could do;
- `loop` and `together`: several launches as one; `touch`: the memory that a launch touches;
- `scalar` and `functions`: opcodes, and the functions that kernels bring along;
- `occupancy`: how many blocks of a kernel a multiprocessor holds.

What it shares with C is in `codegen/clike.py` and `codegen/clike_scalar.py`.
"""
