"""Which reader a file is for, by its first bytes and its name; and a look at it by that reader.

To recognise nothing must cost next to nothing: it is asked of every file that is stored. So a file
is told by bytes that stand at its very beginning, and readers are imported when one is needed.
Where the bytes alone say little, the reader decides, and a file whose name claims nothing is then
of no kind.
"""

from __future__ import annotations

import importlib
import logging
import re
import zlib
from collections.abc import Callable
from typing import Final

from modeldrop.errors import ModeldropError
from modeldrop.formats.description import (
    DamagedError,
    Description,
    NotThisKindError,
    TooMuchError,
)
from modeldrop.formats.source import Bounded, Limits, Meter, RandomAccess

_log = logging.getLogger(__name__)

HEAD: Final = 512
"""How many bytes from the beginning of a file are enough to recognise it."""

Reader = tuple[str, str, str]
"""A kind, and the module and function that read it."""

_SAFETENSORS: Final = ("safetensors", "safetensors", "read")
_ONNX: Final = ("onnx", "onnx", "read")
_GGUF: Final = ("gguf", "gguf", "read")
_NUMPY: Final = ("numpy", "numpy", "read")
_PICKLE: Final = ("pickle", "pickling", "read")
_PYTORCH: Final = ("pytorch", "pytorch", "read_legacy")
_TENSORFLOW: Final = ("tensorflow", "tensorflow", "read")
_HUGGINGFACE: Final = ("huggingface", "huggingface", "read")
_ARCHIVE: Final = ("", "archives", "read")
_HDF5: Final = ("hdf5", "keras", "read_hdf5")
_XGBOOST: Final = ("xgboost", "xgboost", "read_json")
_XGBOOST_UBJSON: Final = ("xgboost", "xgboost", "read_ubjson")
_LIGHTGBM: Final = ("lightgbm", "lightgbm", "read")
_LIGHTGBM_JSON: Final = ("lightgbm", "lightgbm", "read_json")

_BY_NAME: Final[dict[str, Reader]] = {
    "MLmodel": ("mlmodel", "mlmodel", "read"),
    "saved_model.pb": _TENSORFLOW,
}
_BY_SUFFIX: Final[dict[str, Reader]] = {
    "safetensors": _SAFETENSORS,
    "onnx": _ONNX,
    "gguf": _GGUF,
    "npy": _NUMPY,
    **dict.fromkeys(("npz", "keras"), _ARCHIVE),
    **dict.fromkeys(("pkl", "pickle", "joblib"), _PICKLE),
}
_BY_MAGIC: Final[dict[bytes, Reader]] = {
    b"GGUF": _GGUF,
    b"\x93NUM": _NUMPY,
    b"\x89HDF": _HDF5,
    b"PK\x03\x04": _ARCHIVE,
    b"tree": _LIGHTGBM,
}
# What may follow the number of the format in an ONNX model: its other fields.
_ONNX_TAGS: Final = frozenset(b"\x12\x1a\x22\x28\x32\x3a\x42")
_LEGACY_PYTORCH: Final = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19."
_OLD_PICKLE: Final = re.compile(rb"c[A-Za-z_][\w.]{0,200}\n[A-Za-z_][\w.]{0,200}\n")
_PICKLE_NAME: Final = re.compile(r"\.(?:pkl|pickle|joblib)\b", re.IGNORECASE)
_JSON_XGBOOST: Final = re.compile(rb'\s*\{\s*"(?:learner|version)"\s*:')
_JSON_LIGHTGBM: Final = re.compile(rb'\s*\{\s*"name"\s*:\s*"tree"\s*,\s*"version"\s*:')
# What could have done harm before its reader gave up.
_PICKLED: Final = frozenset({"joblib", "pickle", "pytorch"})


def recognise(head: bytes, name: str) -> Reader | None:
    """Return the reader for a file with this beginning and name, or None if nothing is known of it.

    `head` are its first `HEAD` bytes, or all of it.
    """
    last = name.rpartition("/")[2]
    found = _BY_NAME.get(last) or _BY_MAGIC.get(head[:4])
    if found is not None:
        return found
    by_first = _BY_FIRST_BYTE.get(head[:1])
    if by_first is not None and (found := by_first(head, last)) is not None:
        return found
    # The length of a header of less than a terabyte, and its first bytes.
    if head[5:9] == b"\0\0\0{" and head[9:10] in b'"} ':
        return _SAFETENSORS
    return _BY_SUFFIX.get(last.rpartition(".")[2].lower())


def _at_80(head: bytes, _: str) -> Reader | None:
    if head.startswith(_LEGACY_PYTORCH):
        return _PYTORCH
    return _PICKLE if head[1:2] in b"\2\3\4\5" else None


def _at_08(head: bytes, _: str) -> Reader | None:
    return _ONNX if len(head) > 2 and head[1] < 0x20 and head[2] in _ONNX_TAGS else None


def _at_brace(head: bytes, name: str) -> Reader | None:
    if head[:9] == b"{L\0\0\0\0\0\0\0" and head[10:17] in (b"learner", b"version"):
        return _XGBOOST_UBJSON
    if _JSON_XGBOOST.match(head):
        return _XGBOOST
    if _JSON_LIGHTGBM.match(head):
        return _LIGHTGBM_JSON
    if name == "config.json":
        return _HUGGINGFACE
    return _SAFETENSORS if name.endswith(".safetensors.index.json") else None


def _at_c(head: bytes, _: str) -> Reader | None:
    return _PICKLE if _OLD_PICKLE.match(head) else None


def _at_deflated(head: bytes, name: str) -> Reader | None:
    bits = 31 if head[:2] == b"\x1f\x8b" else 15
    try:
        inner = zlib.decompressobj(bits).decompress(head, 2)
    except zlib.error:
        return None
    return _at_80(inner, name)


def _at_packed(_: bytes, name: str) -> Reader | None:
    # To look inside takes long, so only where the name says what is in there.
    return _PICKLE if _PICKLE_NAME.search(name) else None


_BY_FIRST_BYTE: Final[dict[bytes, Callable[[bytes, str], Reader | None]]] = {
    b"\x80": _at_80,
    b"\x08": _at_08,
    b"c": _at_c,
    b"\x1f": _at_deflated,
    b"\x78": _at_deflated,
    **dict.fromkeys((b"B", b"\xfd", b"\x5d"), _at_packed),
    **dict.fromkeys((b"{", b" ", b"\n", b"\r", b"\t"), _at_brace),
}


def look(
    source: RandomAccess, limits: Limits, *, head: bytes | None = None, tensors: bool = False
) -> Description | None:
    """Return what a file is, or None where that isn't known; `head` are its first `HEAD` bytes.

    However bad the file is, this ends within the limits, and a warning says what is wrong with it.

    Raises:
        OSError, ModeldropError: the source could not be read.
    """
    head = source.read(0, HEAD) if head is None else head
    reader = recognise(head, source.name)
    if reader is None:
        return None
    kind, module, function = reader
    into = Description(kind, wants_tensors=tensors)
    is_read = False
    try:
        read = getattr(importlib.import_module(f"modeldrop.formats.{module}"), function)
        read(Bounded(source, Meter(limits), head), into)
        is_read = True
    except NotThisKindError:
        return None
    except DamagedError as error:
        into.break_off(str(error))
    except TooMuchError as error:
        into.warn(f"not all of it is known: {error}")
    except (OSError, ModeldropError):
        raise
    except Exception as error:  # noqa: BLE001 - a reader's own mistake fails no run
        _log.debug("%s could not be read as %s", source.name, kind, exc_info=True)
        into.warn(f"not all of it is known: its reader failed ({type(error).__name__})")
    if not into.kind:
        return None
    if not is_read and into.kind in _PICKLED:
        into.runs_code = True
    into.finish()
    return into
