"""How are kernels written as LLVM IR?  Text, one module a kernel, in explicit vectors.

- `kernel`: a loop nest, a routine, and the dispatch of statements;
- `contract`: a contraction, as a job for the matrix-product family; `short_product`: a short one
  of known sizes, whole;
- `program`: what launches the kernels; `extents`: what derives and checks the extents of a call.

What a function is made of, each from those before it:

- `scalar`: opcodes, for one value or a vector; `arithmetic`: extents;
- `level`: code that is being written; `values`: what things in it are called; `indices`: where
  elements are;
- `loads` and `stores`, with `stream` (past the caches), `turned` (across the rows of memory),
  `rows` (of which each lane writes one) and `ahead` (asked for before it is needed);
- `accumulators`: what loops carry; `checks`: what must hold; `pauses`: where a loop may be stopped;
- `loops`.
"""
