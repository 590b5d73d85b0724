"""Which version of graphc is this? One place, read by the packaging, the caches and
`graphc.__version__`.
"""

import time

__version__ = "0.1.0"
LOADED_AT_NS = time.time_ns()
"""When this process began to load graphc, on the clock that files are dated by."""
