"""Which kernels does a tensor graph become, and in which text? Tensor graph -> kernel languages ->
LLVM IR, CUDA C++.
"""

if __name__ != "graphc.codegen":  # a second copy would hold a second registry and intern table
    raise ImportError(
        "import graphc.codegen, not codegen: the folder is mapped into the graphc package"
    )
