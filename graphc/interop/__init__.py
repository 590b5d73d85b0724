"""How does a graph get into another library, and out of it?  One file a library and direction.

The libraries are imported when a function here is called.
"""

from graphc.interop.networkx import to_networkx
from graphc.interop.sympy_reader import from_sympy
from graphc.interop.sympy_writer import to_sympy

__all__ = ["from_sympy", "to_networkx", "to_sympy"]
