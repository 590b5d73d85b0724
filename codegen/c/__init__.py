"""How are programs written as C99?

- `program`: one `.c` and one `.h`; `interface`: the public functions, and the header;
- `kernel`: a loop nest; `contract`: a contraction; `scalar`: opcodes.

What it shares with CUDA C++ is in `codegen/clike.py` and `codegen/clike_scalar.py`.
"""
