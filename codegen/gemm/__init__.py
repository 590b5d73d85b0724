"""How are matrices multiplied on a CPU?  One native function, written once for each dtype.

- `driver`: cuts a product into tasks, by its sizes and the machine's caches;
- `tasks`: what a task does; `panel`: all register tiles of some rows with one panel of columns;
- `microkernel`: the loops that compute a register tile;
- `packing`: brings operands into the order in which tiles read them;
- `table`: the words and kernels that driver and tasks share.

`codegen/llvm/contract.py` writes the job that it is called with; `short_product` and
`direct_product` beside it serve small products of known sizes from the same tiles.
"""
