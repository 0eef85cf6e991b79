"""PyTorch: a zip with a pickle in it, or, before version 1.6, five pickles one after the other.

The pickle names its storages by persistent ids; the bytes of each are a member of their own. What
is put together from PyTorch's own functions for tensors alone runs no code: it is what
`weights_only` lets through.
"""

from __future__ import annotations

from typing import Final

from modeldrop.formats.description import DamagedError, Description, TooMuchError
from modeldrop.formats.opcodes import Walk
from modeldrop.formats.pickling import describe_walk
from modeldrop.formats.source import Bounded
from modeldrop.formats.standins import Imported, Items, Made, Pairs, Persistent
from modeldrop.formats.ziparchive import Archive

LEGACY: Final = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19\x2e"
_MOST_PICKLE: Final = 16 * 2**20
_MOST_VISITS: Final = 500_000
_DTYPES: Final = {
    "Double": ("float64", 8),
    "Float": ("float32", 4),
    "Half": ("float16", 2),
    "BFloat16": ("bfloat16", 2),
    "Long": ("int64", 8),
    "Int": ("int32", 4),
    "Short": ("int16", 2),
    "Char": ("int8", 1),
    "Byte": ("uint8", 1),
    "Bool": ("bool", 1),
    "ComplexDouble": ("complex128", 16),
    "ComplexFloat": ("complex64", 8),
    "QInt8": ("qint8", 1),
    "QUInt8": ("quint8", 1),
    "QInt32": ("qint32", 4),
    "Untyped": ("bytes", 1),
}
_NAMED_DTYPES: Final = [
    "float64",
    "float32",
    "float16",
    "bfloat16",
    "int64",
    "int32",
    "int16",
    "int8",
    "uint8",
    "bool",
    "complex128",
    "complex64",
    "float8_e4m3fn",
    "float8_e5m2",
    "uint16",
    "uint32",
    "uint64",
]
_V2: Final = frozenset({"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"})
_V3: Final = "torch._utils._rebuild_tensor_v3"
_HARMLESS: Final = frozenset(
    {
        *_V2,
        _V3,
        "torch._utils._rebuild_parameter",
        "torch._utils._rebuild_parameter_with_state",
        "torch.Size",
        "torch.device",
        "torch.nn.parameter.Parameter",
        "torch.serialization._get_layout",
        "torch.storage.UntypedStorage",
        "torch.storage.TypedStorage",
        *(f"torch.{name}Storage" for name in _DTYPES),
        *(f"torch.{name}" for name in _NAMED_DTYPES),
    }
)


def find_pickle(archive: Archive) -> str | None:
    """Return the name of the member that makes an archive one of PyTorch's, if it is."""
    names = archive.members
    return next((each for each in names if each == "data.pkl" or each.endswith("/data.pkl")), None)


def read_archive(archive: Archive, pickle: str, into: Description) -> None:
    """Describe a zip of PyTorch's: its tensors, and what its pickle imports."""
    root = pickle.removesuffix("data.pkl")
    script = any(each.startswith(f"{root}code/") for each in archive.members)
    into.note("layout", "TorchScript" if script else "zip")
    if script:
        # What it runs is its own program, in TorchScript's interpreter.
        into.runs_code = True
    if archive.members[pickle].size > _MOST_PICKLE and not archive.members[pickle].is_stored:
        into.runs_code = True
        message = f"its pickle has more than {_MOST_PICKLE} bytes, packed"
        raise TooMuchError(message)
    walk = Walk(archive.open(pickle, _MOST_PICKLE))
    describe_walk(walk, into, _HARMLESS)
    needed = _tell_tensors(walk, into)
    for key, size in needed.items():
        if not archive.check(f"{root}data/{key}", size):
            into.break_off(f"the numbers of its storage {key} are missing, or not all there")
            break


def read_legacy(source: Bounded, into: Description) -> None:
    """Describe a file from before PyTorch 1.6: magic, version, machine, model, keys, numbers."""
    into.note("layout", "before 1.6")
    at, needed = 0, dict[str, int]()
    imports: dict[str, None] = {}
    for number in range(5):
        walk = Walk(source, at, imports)
        describe_walk(walk, into, _HARMLESS)
        at = walk.end
        if number == 3:
            needed = _tell_tensors(walk, into)
    # Before the numbers of each storage stands how many there are.
    if at + sum(8 + size for size in needed.values()) > source.size:
        into.break_off("it is cut off: not all numbers of its tensors are there")


def _tell_tensors(walk: Walk, into: Description) -> dict[str, int]:
    """Count the tensors that a pickle puts together; return the bytes of each storage's key."""
    needed: dict[str, int] = {}
    seen: set[int] = set()
    todo: list[tuple[str, object]] = [("", walk.result)]
    visits = 0
    while todo:
        name, value = todo.pop()
        visits += 1
        if visits > _MOST_VISITS:
            into.warn("not all of its tensors are listed")
            break
        # A pickle can have one thing in many places, and in itself.
        if not isinstance(value, Made | Items | Pairs | tuple) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Made):
            if not _take(name, value, into, needed):
                todo += [(name, value.items), (name, value.state), (name, value.arguments)]
        elif isinstance(value, Pairs):
            todo += [(_below(name, key), inner) for key, inner in reversed(value.pairs)]
        else:
            inner = value.values if isinstance(value, Items) else value
            todo += [(name, each) for each in reversed(inner)]
    return needed


def _below(name: str, key: object) -> str:
    # The insides of a module are its own affair; what they hold is named as in a state dict.
    if not isinstance(key, str | int) or key in ("_parameters", "_buffers", "_modules"):
        return name
    return f"{name}.{key}"[-500:] if name else str(key)


def _take(name: str, made: Made, into: Description, needed: dict[str, int]) -> bool:
    """Count what was made, if it is a tensor; return whether it is."""
    by = made.by.name if isinstance(made.by, Imported) else ""
    arguments = made.arguments if isinstance(made.arguments, tuple) else ()
    if by in _V2 and len(arguments) > 3:
        storage, shape, dtype = arguments[0], arguments[2], ""
    elif by == _V3 and len(arguments) > 6:
        storage, shape = arguments[0], arguments[2]
        dtype = arguments[6].name if isinstance(arguments[6], Imported) else ""
    else:
        return False
    if not isinstance(storage, Persistent):
        return False
    lengths = shape.arguments if isinstance(shape, Made) else shape
    if isinstance(lengths, tuple) and len(lengths) == 1 and isinstance(lengths[0], tuple):
        lengths = lengths[0]
    if not isinstance(lengths, tuple):
        return False
    sizes = [each for each in lengths if type(each) is int]
    if len(sizes) != len(lengths):
        message = f"the tensor {name!r} has no shape"
        raise DamagedError(message)
    stored = _note_storage(storage.id, needed)
    into.add_tensor(name, dtype.removeprefix("torch.") or stored, sizes)
    return True


def _note_storage(found: object, needed: dict[str, int]) -> str:
    """Take note of the bytes that a storage has to have; return its type."""
    parts = found if isinstance(found, tuple) else ()
    if len(parts) < 5 or not isinstance(parts[1], Imported):
        return "?"
    name = parts[1].name.rpartition(".")[2].removesuffix("Storage")
    dtype, size = _DTYPES.get(name, ("?", 0))
    key, count = parts[2], parts[4]
    if isinstance(key, str) and type(count) is int and count >= 0:
        needed[key] = count * size
    return dtype
