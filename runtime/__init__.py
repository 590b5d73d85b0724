"""How does compiled code run?  Engine, cache, threads, the native call and its memory."""

if __name__ != "graphc.runtime":  # a second copy would hold a second registry and intern table
    raise ImportError(
        "import graphc.runtime, not runtime: the folder is mapped into the graphc package"
    )
