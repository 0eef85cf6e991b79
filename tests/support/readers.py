"""Every reader of bytes that somebody else wrote, with examples of what it reads.

A reader here returns or raises what its documentation names, and nothing else: each of these turns
what is documented into an ordinary return. So any exception that leaves one is a fault.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import json
import shutil
import socket
import tarfile
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from hypothesis import strategies as st

from modeldrop import config, spelling
from modeldrop.backend.connections import Answer, Connections, Limits, NoAnswer, _Connection
from modeldrop.backend.http1 import BadAnswer
from modeldrop.errors import (
    ConfigError,
    IntegrityError,
    InvalidName,
    InvalidQuery,
    ModeldropError,
    NewerFormat,
    NotFound,
    RecordDamaged,
    UsageError,
)
from modeldrop.finding import conditions, query
from modeldrop.form import Record
from modeldrop.formats.recognition import look
from modeldrop.formats.source import STORING, InMemory
from modeldrop.imports.unpacking import BundleFile
from modeldrop.intake import declared, marker
from modeldrop.journal.lines import NotALine, parse
from modeldrop.journal.reading import EMPTY
from modeldrop.journal.segments import NotChained, beginning, chained
from modeldrop.names import printable
from modeldrop.records import Bundle, Member, Refused
from support import modelfiles
from support.damage import THINGS
from support.format_examples import AT, EXAMPLES, HOME, entry_line
from support.mutating import changed, edited, nested, relined, resealed
from support.questions import ask
from support.world import Snapshot, World, build

Read = Callable[[bytes], None]
Inputs = st.SearchStrategy[bytes]


@dataclass(frozen=True)
class Reader:
    """One reader: what it does with bytes, and which bytes it is given."""

    read: Read
    inputs: Callable[[], Inputs]


# Records, lines, segments


def _records(data: bytes) -> None:
    for example in EXAMPLES.values():
        kind: type[Record] = type(example)
        try:
            found = kind.from_bytes(data, "here")
        except (RecordDamaged, NewerFormat):
            continue
        again = kind.from_bytes(found.to_bytes(), "here")
        assert again == found, "it isn't read as it was written"


def _record_inputs() -> Inputs:
    whole = [each.to_bytes() for each in EXAMPLES.values()]
    said = [json.loads(each) for each in whole]
    deep = st.sampled_from([nested("json"), nested("object")])
    return edited(whole) | resealed(said) | changed(said).map(_json) | deep


def _lines(data: bytes) -> None:
    with contextlib.suppress(NotALine, NewerFormat):
        parse(data, 0)
    with contextlib.suppress(NotChained, NewerFormat):
        assert chained(data, EMPTY, HOME).data == data
    with contextlib.suppress(NewerFormat):
        found = beginning(data, HOME)
        assert found is None or data.startswith(found.data)


def _line_inputs() -> Inputs:
    first = {**json.loads(entry_line()), "seq": 1, "prev": "0" * 64}
    line = relined([first])
    return edited([entry_line()]) | line | st.lists(line, max_size=3).map(b"".join)


# What people write


def _is_told(error: ModeldropError) -> None:
    assert error.message, "it says nothing"
    assert printable(error.message) == error.message, "it would drive a terminal"


def _config_inputs() -> Inputs:
    whole = [
        b'[backend]\nurl = "s3://models/team"\n[backend.options]\nanon = true\n',
        b"[staging]\nrun_names = true\n[service]\nquiet_time = 5\nafterwards = 'keep'\n",
        b'[hooks]\ncommitted = ["notify", "x"]\n[gc]\nkeep_revisions = 3\n[formats]\n',
    ]
    return edited(whole)


def _config(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "config.toml"
        path.write_bytes(data)
        try:
            config.load(path)
        except ConfigError as error:
            _is_told(error)


def _references(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for read in (spelling.parse, spelling.parse_alias, spelling.parse_run):
        try:
            read(text)
        except InvalidName as error:
            _is_told(error)


def _reference_inputs() -> Inputs:
    whole = [
        *(b"churn", b"churn/3", b"churn@champion", b"churn@champion~2", b"run:@last"),
        *(b"run:3f2b8c1e-5d7a-4c0b-9a61-0f6e2d4b7a90~2/model.onnx", b"{3F2B8C1E}", b"3f2b"),
    ]
    return edited(whole) | st.binary(max_size=40) | st.text(max_size=40).map(_utf8)


def _query(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    for unit in (conditions.VERSIONS, conditions.RUNS):
        try:
            conditions.condition(unit, query.parse(text), text)
        except (InvalidQuery, InvalidName) as error:
            _is_told(error)


def _query_inputs() -> Inputs:
    whole = [
        b'experiment=churn and metrics.auc>0.9 and not (tags.team="risk" or version<=3)',
        b"params.depth != 6 and artifact ~ 'onnx'",
        b"registered_at >= 2026-03-14 and format=onnx and retired=false",
    ]
    return edited(whole) | st.just(b"(" * 5000) | st.just(b"not " * 5000)


def _run_file(data: bytes) -> None:
    for name in declared.ORDER:
        found = declared.parse(name, data)
        assert isinstance(found, declared.Declared | Refused)


def _run_file_inputs() -> Inputs:
    whole = [
        b'experiment = "churn"\nregister = true\n[params]\ndepth = 6\nlr = 0.05\n',
        b"experiment: churn\nmetrics:\n  auc: 0.9\ntags: {team: risk}\n",
        b"datasets:\n- name: a\n  sha256: " + b"0" * 64 + b"\n",
        b'{"experiment": "churn", "params": {"a": [1, 2]}, "directions": {"auc": "max"}}',
        b'parent = "9d0f3c52-2b61-4a0e-8c77-5e1a6b3d9f04"\n[code]\ncommit = "8f3a1d2c"\n',
    ]
    deep = [nested("json"), nested("object"), b"- " * 3000, b"a:\n" + b" a:\n" * 2000]
    said = [json.loads(whole[3])]
    return edited(whole) | changed(said).map(_json) | st.sampled_from(deep)


def _marker(data: bytes) -> None:
    found = marker.parse(data)
    assert isinstance(found, marker.Marker | Refused)


def _marker_inputs() -> Inputs:
    whole = [
        b"",
        b"0" * 64 + b"  model.bin\n" + b"a" * 64 + b" *folder/a\n",
        b"SHA256 (a b) = " + b"0" * 64 + b"\r\nmodel.bin\n./folder\n",
        b"\\" + b"0" * 64 + b"  a\\nb\n\xef\xbb\xbf",
    ]
    return edited(whole)


# Model files


def _formats(data: bytes) -> None:
    name, _, body = data.partition(b"\n")
    found = look(InMemory(body, name.decode("latin-1")), STORING, tensors=True)
    assert not found or not [each for each in found.warnings if "its reader failed" in each]


def _format_inputs() -> Inputs:
    with tempfile.TemporaryDirectory() as folder:
        samples = modelfiles.samples(Path(folder))
    by_name = [(name.encode() + b"\n", whole) for name, whole in sorted(samples.items())]
    return st.one_of([edited([whole]).map(name.__add__) for name, whole in by_name])


# Bundles


def _bundle(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bundle.tar"
        path.write_bytes(data)
        try:
            found = BundleFile(path)
        except (NotFound, UsageError, IntegrityError):
            return
        with contextlib.closing(found):
            for run in found.runs():
                run.content()
                run.described()
            list(found.experiments())


def _bundle_inputs() -> Inputs:
    return edited([bundle()]) | resealed_bundles()


def bundle(records: Sequence[bytes] | None = None) -> bytes:
    """Return a bundle of these records, with the bytes that the examples name."""
    whole = [EXAMPLES[kind].to_bytes() for kind in ("version", "alias-move", "revision")]
    given = whole if records is None else records
    members = [(f"records/{number}.json", each) for number, each in enumerate(given, 1)]
    contents = (b"hello", b"")
    members += [(f"bytes/{hashlib.sha256(each).hexdigest()}", each) for each in contents]
    listed = tuple(
        Member(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in members
    )
    front = Bundle(HOME, "ada", AT, listed).to_bytes()
    made = bytearray()
    for name, data in [("bundle.json", front), *members]:
        header = tarfile.TarInfo(name)
        header.size = len(data)
        made += header.tobuf(tarfile.GNU_FORMAT, "ascii", "strict") + data
        made += bytes(-len(data) % tarfile.BLOCKSIZE)
    return bytes(made + bytes(2 * tarfile.BLOCKSIZE))


@st.composite
def resealed_bundles(draw: st.DrawFn) -> bytes:
    """Return bundles whose records say something else, with all digests right."""
    said = [json.loads(EXAMPLES[kind].to_bytes()) for kind in ("version", "revision", "alias-move")]
    records = draw(st.lists(resealed(said), max_size=3))
    return bundle(records)


# Answers of stores


def _answer(data: bytes) -> None:
    for method in ("GET", "HEAD", "PUT"):
        ours, theirs = socket.socketpair()
        with theirs:
            ours.settimeout(5)
            theirs.settimeout(5)
            connections = Connections(urlsplit("http://127.0.0.1:1"), Limits(5, 5), None)
            connection = _Connection(ours)
            # `send` turns the first and the last into the second.
            with contextlib.suppress(BadAnswer, NoAnswer, OSError):
                theirs.sendall(data[:60_000])
                theirs.shutdown(socket.SHUT_WR)
                Answer(connections, connection, connection.head(), method).whole(5)
            connection.close()
            connections.close()


def _answer_inputs() -> Inputs:
    whole = [
        b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\nETag: "x"\r\n\r\nhello',
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nA: b\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 404 Not Found\r\nConnection: close\r\n\r\n<Error/>",
        b"HTTP/1.0 206 Partial\r\nContent-Range: bytes 0-4/5\r\n\r\nhello",
    ]
    return edited(whole)


# What others have put into a store, by whom it is asked for


_ASKED: Final = (
    *("show", "list", "deployments", "search", "pull", "verify", "register again", "promote"),
    *("deploy", "collect", "fetch", "rebuild"),
)
_STORED: Final = (
    *("format.json", "manifest", "version", "newest version", "claim", "move of an alias"),
    *("target", "deployment", "retirement", "collection", "mark of a target"),
)
_SEGMENTS: Final = ("other's newest segment", "other's segment")


@functools.cache
def _world() -> tuple[World, Snapshot]:
    memory = Path("/dev/shm")  # noqa: S108 - a folder of its own is made there
    root = tempfile.mkdtemp(prefix="modeldrop-", dir=memory if memory.is_dir() else None)
    atexit.register(shutil.rmtree, root)
    made = build(Path(root))
    return made, Snapshot(made.root)


def _store(data: bytes) -> None:
    world, whole = _world()
    name, _, body = data.partition(b"\n")
    place = THINGS[name.decode()].find(world)
    try:
        for question in _ASKED:
            place.write_bytes(body)
            told = ask(world, question)
            assert not told.crash, f"{question}: {told.crash}"
            strange = [
                str(path)
                for path, how in whole.changed().items()
                if path != place and (how != "new" or world.root not in path.parents)
                if not path.is_relative_to(world.home)
            ]
            assert not strange or question in {"deploy", "collect"}, f"{question}: {strange}"
            whole.put_back()
    finally:
        whole.put_back()


def _store_inputs() -> Inputs:
    world, _ = _world()
    every: list[Inputs] = []
    for name in _STORED:
        said = json.loads(THINGS[name].find(world).read_bytes())
        every.append(resealed([said]).map(f"{name}\n".encode().__add__))
    for name in _SEGMENTS:
        lines = THINGS[name].find(world).read_bytes().splitlines()
        first = relined([json.loads(lines[0])])
        every.append(first.map(f"{name}\n".encode().__add__))
    return st.one_of(every)


def _json(found: Any) -> bytes:  # noqa: ANN401 - JSON
    return json.dumps(found).encode()


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


READERS: Final[dict[str, Reader]] = {
    "answers": Reader(_answer, _answer_inputs),
    "bundles": Reader(_bundle, _bundle_inputs),
    "config": Reader(_config, _config_inputs),
    "formats": Reader(_formats, _format_inputs),
    "lines": Reader(_lines, _line_inputs),
    "markers": Reader(_marker, _marker_inputs),
    "queries": Reader(_query, _query_inputs),
    "records": Reader(_records, _record_inputs),
    "references": Reader(_references, _reference_inputs),
    "run files": Reader(_run_file, _run_file_inputs),
    "stores": Reader(_store, _store_inputs),
}
