"""modeldrop: a model registry without a server. Drop a model, get a version, get its bytes back.

`Repository.open()` is where to start; `modeldrop.errors` is what can go wrong. The library never
prints, and reads no setting at import time.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from modeldrop._version import __version__

if TYPE_CHECKING:
    from modeldrop.capture import captured
    from modeldrop.repository import Repository

__all__ = ["Repository", "__version__", "captured"]

# Without a handler of the program's own, Python would print warnings to stderr.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> object:
    # Loaded when asked for: `import modeldrop.errors` in a command that only says what
    # is wrong shouldn't pay for the store.
    if name == "Repository":
        from modeldrop.repository import Repository  # noqa: PLC0415 - see above

        return Repository
    if name == "captured":
        from modeldrop.capture import captured  # noqa: PLC0415 - the same

        return captured
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
