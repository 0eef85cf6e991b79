"""Pickles and joblib files: what they import, which is what they may run. Never loaded.

A pickle whose imports are all of `_HARMLESS` only puts data together. Any other import makes it a
file that runs code when it is loaded: what a class does when it is made or given its state is its
own affair. Every scanner of pickles has holes, and so does this one: `runs_code` is a badge.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Iterable
from typing import Final, Protocol

from modeldrop.formats.description import (
    DamagedError,
    Description,
    NotThisKindError,
    TooMuchError,
)
from modeldrop.formats.opcodes import UNKNOWN, WRAPPER, Walk
from modeldrop.formats.source import Bounded

_SUFFIXES: Final = (".pkl", ".pickle", ".p", ".joblib", ".pk")
_HARMLESS: Final = frozenset(
    {
        "_codecs.encode",
        "collections.OrderedDict",
        "copy_reg._reconstructor",
        "copyreg._reconstructor",
        "joblib.numpy_pickle.NumpyArrayWrapper",
        "numpy.dtype",
        "numpy.ndarray",
        *(
            f"numpy.{core}.{name}"
            for core in ("core", "_core")
            for name in ("multiarray._reconstruct", "multiarray.scalar", "numeric._frombuffer")
        ),
        *(
            f"{builtins}.{name}"
            for builtins in ("builtins", "__builtin__")
            for name in ("bytearray", "complex", "frozenset", "object", "range", "set", "slice")
        ),
    }
)
# Not all that can do harm, but what no model needs to be loaded.
_ALARMING: Final = frozenset(
    [
        "asyncio",
        "bdb",
        "builtins",
        "__builtin__",
        "cProfile",
        "code",
        "codeop",
        "commands",
        "ctypes",
        "ftplib",
        "http",
        "importlib",
        "marshal",
        "multiprocessing",
        "nt",
        "os",
        "pdb",
        "pickle",
        "pip",
        "posix",
        "posixpath",
        "profile",
        "pty",
        "runpy",
        "shutil",
        "signal",
        "smtplib",
        "socket",
        "ssl",
        "subprocess",
        "sys",
        "tempfile",
        "threading",
        "timeit",
        "urllib",
        "webbrowser",
    ]
)
_STEP: Final = 64 * 2**10
_KEPT: Final = 256 * 2**10
_MOST_NAMED: Final = 20


def read(source: Bounded, into: Description) -> None:
    """Describe a pickle or a joblib file, packed or not.

    Raises:
        NotThisKindError: it is none, and its name doesn't say that it is.
    """
    packing = _packing(source.upto(0, 6))
    whole, unpacked = source, None
    if packing is not None:
        unpacked = _Unpacked(source, packing)
        whole = source.beside(unpacked)
        if not _begins(whole.upto(0, 2)):
            raise NotThisKindError
        into.note("compression", packing)
    is_named = source.name.lower().endswith(_SUFFIXES)
    walk = Walk(whole)
    try:
        describe_walk(walk, into)
        if unpacked is not None:
            unpacked.check_end()
    except DamagedError:
        # The first opcodes of the oldest form are letters, and so are those of a table of numbers.
        if not is_named and not (walk.imports and _begins(whole.upto(0, 2))):
            raise NotThisKindError from None
        raise
    finally:
        if packing is not None or WRAPPER in walk.imports or source.name.endswith(".joblib"):
            into.kind = "joblib"


def describe_pickle(source: Bounded, into: Description, at: int = 0) -> Walk:
    """Describe the pickle at a place of a file; return what was followed."""
    walk = Walk(source, at)
    describe_walk(walk, into)
    return walk


def describe_walk(walk: Walk, into: Description, harmless: frozenset[str] = frozenset()) -> None:
    """Follow a pickle to its end, and say what it imports; `harmless` are names that do nothing."""
    finished = False
    try:
        walk.run()
        finished = True
    finally:
        tell_imports(walk.imports, into, harmless)
        if not finished:
            # What follows might import anything.
            into.runs_code = True
        for number, (dtype, shape) in enumerate(walk.arrays):
            into.add_tensor(f"array {number}", dtype, shape)


def tell_imports(
    imports: Iterable[str], into: Description, harmless: frozenset[str] = frozenset()
) -> None:
    """Say what a pickle imports, what is worst first, and whether that runs code."""
    names = list(imports)
    others = [each for each in names if each not in _HARMLESS and each not in harmless]
    alarming = [each for each in others if each.partition(".")[0] in _ALARMING]
    if others:
        into.runs_code = True
    ordered = dict.fromkeys([*alarming, *others, *names])
    listed = [each for each in ordered if each != UNKNOWN]
    into.note_all("imports", listed[:_MOST_NAMED])
    if len(listed) > _MOST_NAMED:
        into.note("imports_in_all", len(listed))
    if alarming:
        into.warn(f"loading it imports {', '.join(alarming[:5])}, which no model needs")
    if UNKNOWN in ordered:
        into.warn("loading it imports something whose name it computes")


def _begins(head: bytes) -> bool:
    return len(head) == 2 and head[0] == 0x80 and 2 <= head[1] <= 5


def _packing(head: bytes) -> str | None:
    """Return by what a file is packed, or None if it isn't, or nobody knows how to unpack it."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head.startswith(b"BZh"):
        return "bz2"
    if head.startswith(b"\xfd7zXZ\0"):
        return "xz"
    if head.startswith(b"\x5d\x00\x00"):
        return "lzma"
    if head[:1] == b"\x78" and head[1:2] in (b"\x01", b"\x5e", b"\x9c", b"\xda"):
        return "zlib"
    return None


class _Unpacker(Protocol):
    @property
    def eof(self) -> bool: ...

    @property
    def needs_input(self) -> bool: ...

    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Zlib:
    """zlib with the manners of the other two: what it hasn't used it keeps."""

    def __init__(self, bits: int) -> None:
        self._inner = zlib.decompressobj(bits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


class _Unpacked:
    """What a packed file holds, read forward; of what was read, the last bytes are kept.

    Its size is known at its end only.
    """

    def __init__(self, packed: Bounded, packing: str) -> None:
        self.name = packed.name
        self.size = 2**62
        self._packed = packed
        self._unpacker = _unpacker(packing)
        self._at = 0
        self._start = 0
        self._kept = b""

    def read(self, offset: int, count: int) -> bytes:
        if offset < self._start:
            message = "it is packed, and would have to be unpacked twice"
            raise TooMuchError(message)
        while self._start + len(self._kept) < offset + count:
            part = self._next()
            if not part:
                break
            if len(self._kept) > _KEPT + count:
                cut = min(len(self._kept) - _KEPT, max(0, offset - self._start))
                self._start, self._kept = self._start + cut, self._kept[cut:]
            self._kept += part
        at = offset - self._start
        return self._kept[at : at + count]

    def check_end(self) -> None:
        """Return if nothing follows, and the checksum at its end is there and right."""
        while self._next():
            pass
        if not self._unpacker.eof:
            message = "it is cut off: what packed it hasn't ended"
            raise DamagedError(message)

    def _next(self) -> bytes:
        try:
            while not self._unpacker.eof:
                needy = self._unpacker.needs_input
                data = self._packed.upto(self._at, _STEP) if needy else b""
                self._at += len(data)
                part = self._unpacker.decompress(data, _STEP)
                if part:
                    self._packed.meter.charge(len(part))
                    return part
                if needy and not data:
                    break
        except (zlib.error, lzma.LZMAError, OSError, EOFError) as error:
            message = "it can't be unpacked"
            raise DamagedError(message) from error
        return b""


def _unpacker(packing: str) -> _Unpacker:
    if packing == "bz2":
        return bz2.BZ2Decompressor()
    if packing in ("xz", "lzma"):
        return lzma.LZMADecompressor(memlimit=64 * 2**20)
    return _Zlib(31 if packing == "gzip" else 15)
