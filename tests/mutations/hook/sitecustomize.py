"""Has one module of this process compiled from another file: `MUTANT=module=path`.

Python imports this by itself where its folder is on PYTHONPATH, so it holds for every process that
a test starts. The module keeps its name and its place, and nothing is cached.
"""

import importlib.abc
import importlib.machinery
import os
import sys
from collections.abc import Sequence
from types import CodeType, ModuleType

_MODULE, _, _SOURCE = os.environ.get("MUTANT", "").partition("=")


class Unlocked:
    """What stands for a lock that was taken out: everybody has it."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Have it."""
        del blocking, timeout
        return True

    def release(self) -> None:
        """Let go of it."""

    def __enter__(self) -> bool:
        return True

    def __exit__(self, *_: object) -> None:
        pass


class _Loader(importlib.machinery.SourceFileLoader):
    def get_code(self, fullname: str) -> CodeType:
        del fullname
        with open(_SOURCE, "rb") as file:
            return compile(file.read(), self.path, "exec", dont_inherit=True)


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != _MODULE:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin)
        return spec


if _SOURCE:
    sys.meta_path.insert(0, _Finder())
