"""Which kernels does a tensor graph become, and in which text? Tensor graph -> kernel languages ->
LLVM IR, CUDA C++, C.

The languages, each in a file that states its meaning: `scalar` (instructions), `loops` (kernels),
`program` (what launches them); `interpret` executes all three in NumPy and is the reference.

From a graph to a program: `lower`, with `fuse` (which nodes are one kernel), `emit` (how a group is
written as a kernel, from values that `reader` finds), `passes` (what stands between), `memory` (one
arena); `vecmath` has the mathematical functions, `nest` the kernels that ops write themselves.

From a program to text: `llvm`, with `gemm` for matrix products; `cuda` and `c`, with what they
share in `clike`. `machine` and `tactics` say for which target, in numbers; `report` what was done.
"""

if __name__ != "graphc.codegen":  # a second copy would hold a second registry and intern table
    raise ImportError(
        "import graphc.codegen, not codegen: the folder is mapped into the graphc package"
    )
