"""Files that lie, or are cut off, or mean harm: a clear answer in bounded time and memory.

Nothing is executed, nothing crashes, and no reader fails: what is wrong is a warning.
"""

from __future__ import annotations

import io
import pickle
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modeldrop.formats.description import DamagedError, Description, TooMuchError
from modeldrop.formats.recognition import look
from modeldrop.formats.source import STORING, Bounded, InMemory, Limits, Meter
from modeldrop.structs import replace
from support import modelfiles

# What a look may take at most, with room for a busy machine: its limit is 1 s of work.
PATIENCE = 20.0
FAILED = "its reader failed"


def looked(data: bytes, name: str, limits: Limits = STORING) -> Description | None:
    """Look at a file; whatever it is, that ends in time, and by no mistake of the reader's."""
    began = time.monotonic()
    found = look(InMemory(data, name), limits, tensors=True)
    assert time.monotonic() - began < PATIENCE
    assert not found or not [each for each in found.warnings if FAILED in each]
    return found


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    return modelfiles.samples(tmp_path_factory.mktemp("samples"))


NAMES = [
    "model.safetensors",
    "model.onnx",
    "model.gguf",
    "MLmodel",
    "config.json",
    "model.keras",
    "model.h5",
    "data.hdf5",
    "array.npy",
    "arrays.npz",
    "packed.npz",
    "model.joblib",
    "packed.joblib",
    "model.pkl",
    "old.pkl",
    "model.pt",
    "legacy.pt",
    "saved_model.pb",
    "xgboost.json",
    "xgboost.ubj",
    "lightgbm.txt",
]
# Of these nothing says where they end: a part of them is as good as the whole.
_ENDLESS = {"MLmodel", "saved_model.pb", "model.onnx"}


@pytest.mark.parametrize("name", NAMES)
def test_cut_off_anywhere_is_said_or_seen(samples: dict[str, bytes], name: str) -> None:
    whole = samples[name]
    places = {*range(min(64, len(whole))), *range(0, len(whole), max(1, len(whole) // 150))}
    unsaid = []
    for place in sorted(places | {len(whole) - 1}):
        found = looked(whole[:place], name)
        if name == "lightgbm.txt" and place > whole.index(b"end of trees"):
            # What follows says how it was trained, and is needed for nothing.
            break
        if found is not None and not found.damaged and not found.warnings:
            unsaid.append(place)
    if name not in _ENDLESS:
        assert unsaid == []


@pytest.mark.parametrize("name", ["array.npy", "model.safetensors", "model.pkl", "model.gguf"])
def test_with_its_last_byte_cut_off_it_is_damaged(samples: dict[str, bytes], name: str) -> None:
    found = looked(samples[name][:-1], name)
    assert found is not None
    assert found.damaged


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_flipped_bytes_never_make_a_reader_fail(
    samples: dict[str, bytes], name: str, data: st.DataObject
) -> None:
    changed = bytearray(samples[name])
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, min(len(changed) - 1, 4096)))
        changed[place] = data.draw(st.integers(0, 255))
    looked(bytes(changed), name)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([*NAMES, "blob"]), st.sampled_from(range(12)))
def test_any_bytes_with_any_name_never_make_a_reader_fail(
    data: bytes, name: str, magic: int
) -> None:
    heads = (
        *(b"", b"GGUF\3\0\0\0", b"\x93NUMPY\1\0", b"\x89HDF\r\n\x1a\n", b"PK\3\4", b"tree\n"),
        *(
            b"\x80\4",
            b"\x08\x07\x12",
            b"{L\0\0\0\0\0\0\0\7learner{",
            b'{"learner":',
            b"cos\nsystem\n",
        ),
        b"\x40\0\0\0\0\0\0\0{",
    )
    looked(heads[magic] + data, name)


@pytest.mark.parametrize("name", NAMES)
def test_lengths_that_lie_are_not_believed(samples: dict[str, bytes], name: str) -> None:
    whole = samples[name]
    for width in (2, 4, 8):
        for place in range(0, min(len(whole), 700), 3):
            for value in (b"\xff" * width, b"\xff" * (width - 1) + b"\x7f"):
                changed = whole[:place] + value + whole[place + width :]
                looked(changed, name)


@dataclass(frozen=True)
class Sparse:
    """A file whose bytes are at its beginning, and that is said to be far larger."""

    name: str
    head: bytes
    size: int
    asked: list[int]

    def read(self, offset: int, count: int) -> bytes:
        self.asked.append(count)
        data = self.head[offset : offset + count]
        return data + bytes(max(0, min(count, self.size - offset) - len(data)))


HUGE = 100 * 2**20


@pytest.mark.parametrize(
    ("name", "head"),
    [
        ("model.safetensors", struct.pack("<Q", HUGE) + b'{"'),
        ("model.gguf", b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60)),
        ("model.gguf", b"GGUF" + struct.pack("<IQQQ", 3, 1, 1, HUGE)),
        ("array.npy", b"\x93NUMPY\2\0" + struct.pack("<I", HUGE)),
        ("model.pkl", b"\x80\4\x8d" + struct.pack("<Q", HUGE)),
        ("model.pkl", b"(" * 64),
        ("model.onnx", b"\x08\x07\x3a" + b"\x80\x80\x80\x32" + b"\x0a\xff\xff\xff\x2f"),
        ("config.json", b"{" + b" " * 600),
        ("model.ubj", b"{L" + struct.pack(">q", 7) + b"learner[$d#L" + struct.pack(">q", 2**62)),
        ("lightgbm.txt", b"tree\nversion=v4\n"),
        ("model.h5", b"\x89HDF\r\n\x1a\n\0\0\0\0\0\x08\x08" + bytes(200)),
        ("a.zip", b"PK\3\4" + bytes(200)),
    ],
)
def test_header_of_a_hundred_megabytes_is_not_read_at_once(name: str, head: bytes) -> None:
    source = Sparse(name, head, 2 * HUGE, [])
    began = time.monotonic()
    found = look(source, STORING)
    assert time.monotonic() - began < PATIENCE
    assert max(source.asked) <= 16 * 2**20
    assert sum(source.asked) <= STORING.most_bytes + 2**20
    assert found is None or found.warnings


def test_time_is_bounded_whatever_the_file_takes() -> None:
    clock = iter(range(10_000_000))
    meter = Meter(replace(STORING, seconds=3.0, clock=lambda: float(next(clock))))
    source = Bounded(InMemory(bytes(10**6), "x"), meter)
    for _ in range(3):
        source.read(0, 10**5)
    with pytest.raises(TooMuchError, match="time"):
        source.read(0, 10**5)


def test_pickle_that_makes_objects_without_end_is_given_up(tmp_path: Path) -> None:
    for body in (b"N" * 5_000_000, b"]" + b"2" * 5_000_000, b"(lp0\n" + b"g0\n" * 2_000_000):
        found = looked(b"\x80\2" + body, "model.pkl")
        assert found is not None
        assert found.runs_code
        assert found.warnings


def test_pickle_nested_a_million_deep_is_followed_without_recursion() -> None:
    found = looked(b"\x80\2" + b"]" * 20_000 + b"a" * 19_999 + b".", "deep.pkl")
    assert found is not None
    assert not found.warnings
    doubled = b"\x80\2)" + b"2\x86" * 5000 + b"."
    assert looked(doubled, "doubled.pkl") is not None


def test_state_dict_that_holds_itself_is_listed_to_its_end() -> None:
    loop = b"\x80\2]q\0" + b"h\0" * 1000 + b"0" * 1000 + b"h\0a."
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("m/data.pkl", loop)
    found = looked(out.getvalue(), "model.pt")
    assert found is not None
    assert not found.damaged


def test_json_nested_without_end_is_refused() -> None:
    deep = b'{"a":' * 200_000
    for name in ("config.json", "model.safetensors.index.json"):
        looked(deep, name)
    looked(struct.pack("<Q", len(deep)) + deep, "model.safetensors")
    looked(b'{"learner":' + deep, "model.json")
    digits = b'{"x":{"dtype":"F32","shape":[' + b"9" * 100_000 + b'],"data_offsets":[0,4]}}'
    found = looked(struct.pack("<Q", len(digits)) + digits, "model.safetensors")
    assert found is not None
    assert found.damaged


def zipped(members: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


def test_zip_bomb_is_unpacked_no_further_than_a_header() -> None:
    zeros = bytes(60 * 2**20)
    bombs = {
        "a.npz": zipped({"a.npy": zeros}),
        "a.pt": zipped({"m/data.pkl": zeros}),
        "a.keras": zipped({"metadata.json": zeros, "config.json": zeros}),
        "a.joblib": zlib.compress(b"\x80\4\x8d" + struct.pack("<Q", 2**40) + zeros),
    }
    for name, data in bombs.items():
        limits = Limits(5.0, 2**25, 2**14)
        found = looked(data, name, limits)
        assert found is not None, name
        assert found.warnings, name


def test_nested_zip_is_a_member_like_any_other() -> None:
    inner = zipped({"x.npy": modelfiles.npy()})
    for _ in range(20):
        inner = zipped({"inner.zip": inner})
    assert looked(inner, "nested.zip") is None
    found = looked(zipped({"m/data.pkl": inner}), "nested.pt")
    assert found is not None
    assert found.damaged


def test_zip_with_more_members_than_are_read_says_so() -> None:
    entry = struct.pack("<4s6H3I5H2I", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0)
    count = 150_000
    names = [entry + bytes([65 + number % 26]) for number in range(count)]
    table = b"".join(names)
    end = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFE, 0xFFFE, len(table), 4, 0)
    looked(b"PK\3\4" + table + end, "many.npz")


@pytest.mark.scenario(52)
@pytest.mark.parametrize("protocol", range(6))
def test_pickle_that_would_write_a_file_is_flagged_and_never_executed(
    tmp_path: Path, protocol: int
) -> None:
    canary = tmp_path / "ran"
    data = pickle.dumps(modelfiles.Canary(canary), protocol)
    for name in ("model.pkl", "model.joblib", "weights.bin"):
        found = looked(data, name)
        if found is not None:
            assert found.runs_code
            assert not canary.exists()
    assert looked(data, "model.pkl") is not None
    # The negative: loaded as its library does, it does what it is there for.
    pickle.loads(data).close()  # noqa: S301 - made three lines above
    assert canary.exists()


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\4\x8c\5posix\x8c\6system\x93\x8c\4true\x85R.",
        b"\x80\4\x8c\5posix\x94\x8c\6system\x940h\0h\1\x93\x8c\4true\x85R.",
        b"(S'true'\nios\nsystem\n.",
        b"\x80\2(cos\nsystem\nS'true'\no.",
        b"\x80\2\x82\1)R.",
        b"\x80\4cbuiltins\ngetattr\n\x8c\2os\x8c\6system\x86R\x8c\1a\x93.",
        b"\x80\4\x8c\6runpy\n" + b"x" * 10,
    ],
)
def test_imports_are_seen_however_they_are_written(data: bytes) -> None:
    found = looked(data, "model.pkl")
    assert found is not None
    assert found.runs_code
    assert found.warnings


def test_what_a_reader_raises_by_mistake_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    from modeldrop.formats import onnx  # noqa: PLC0415 - to be broken

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(onnx, "read", broken)
    found = look(InMemory(modelfiles.onnx_model(), "model.onnx"), STORING)
    assert found is not None
    assert FAILED in found.warnings[0]


def test_memory_stays_bounded_on_the_worst_files(tmp_path: Path) -> None:
    """Looked at in a process of its own, which may not have more than 400 MiB beside its own."""
    bad = {
        "many.pkl": b"\x80\2" + b"N" * 5_000_000,
        "texts.pkl": b"\x80\2" + b"U\xff" * 5_000_000,
        "bomb.joblib": zlib.compress(b"\x80\4" + b"N" * 100_000_000),
        "list.json": b'{"learner":' + b"[" * 10_000_000,
        "wide.safetensors": struct.pack("<Q", 7 * 2**20) + b'{"a":[' + b"[]," * 2_400_000,
    }
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
    code = (
        "import resource, sys\n"
        "from modeldrop.inspecting import inspect_path\n"
        "limit = 700 * 2**20\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "for each in inspect_path(sys.argv[1]): print(each.format.kind, each.format.warnings)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "MemoryError" not in done.stdout
    assert done.stdout.count("\n") >= 3


def test_a_source_that_fails_is_told_and_no_property_of_the_file() -> None:
    class Failing:
        name, size = "model.safetensors", 10_000

        def read(self, offset: int, count: int) -> bytes:
            if offset or count > 512:
                raise OSError(5, "Input/output error")
            return struct.pack("<Q", 9000).ljust(count, b"{")

    with pytest.raises(OSError, match="Input/output"):
        look(Failing(), STORING)


def test_bounds_hold_for_windows_too() -> None:
    source = Bounded(InMemory(b"0123456789", "x"), Meter(STORING))
    part = source.window(2, 4, "part")
    assert part.read(0, 4) == b"2345"
    with pytest.raises(DamagedError):
        part.read(0, 5)
    with pytest.raises(DamagedError):
        source.window(8, 4, "part")
