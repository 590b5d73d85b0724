"""Which version of graphc is this? One place, read by the packaging, the caches and
`graphc.__version__`.
"""

__version__ = "0.1.0"
