"""What every backend promises, asked of each: a folder, S3, Azure, and fsspec's own methods."""

import contextlib
import http.client
import os
import subprocess
import sys
import threading
import tracemalloc
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

import pytest

from modeldrop import layout
from modeldrop.backend import Backend, Source, Stored, open_backend
from modeldrop.backend.driver import Upload
from modeldrop.backend.local import LocalBackend
from modeldrop.backend.local_files import LocalWriter
from modeldrop.backend.objects import ObjectBackend
from modeldrop.backend.streams import PartWriter
from modeldrop.batch import Batch
from modeldrop.errors import BackendError, InvalidName
from modeldrop.names import new_guid
from support.backends import CONTRACT, FOR_ONE

RUN: Final = "3f2b8c1e-0000-4000-8000-000000000001"
RECORD: Final = f"{RUN}/revisions/00000001.json"
MIB: Final = 2**20
RACERS: Final = 16
# Stores whose empty folders stay.
KEEP_FOLDERS: Final = ("sftp", "linkless_sftp", "webdav", "plain")
# Names that something between us and a store reads as something else.
NAMES: Final = (
    "model.onnx",
    "with space.pt",
    "100%.pt",
    "%2F.pt",
    "a?versionId=1",
    "a?versionid=1",
    "sharp#.pt",
    "plus+and&=;,.pt",
    "*.pt",
    "[a]{b}.pt",
    "~home",
    ".hidden",
    "..",
    "trailing.",
    "trailing ",
    "quote'\"`$x.pt",
    "<xml>&amp;",
    "größe-模型-🧠.bin",
    "e\u0301 or \u00e9",
    "folder/in/folder.bin",
    "x" * 255,
    "/".join(["deep"] * 200),
)


@dataclass
class Store:
    """A new and empty place for a backend, and how to look at it."""

    name: str
    url: str
    _opened: list[Backend] = field(default_factory=list)

    def open(self) -> Backend:
        """Return another instance, as another process would have."""
        backend = open_backend(self.url, {}, None)
        self._opened.append(backend)
        return backend

    def close(self) -> None:
        for backend in self._opened:
            backend.close()


@pytest.fixture(params=CONTRACT)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each kind of backend; "plain" is what other fsspec stores get, and is for one writer."""
    kind: str = request.param
    if kind == "local":
        url = str(tmp_path / "backend")
    elif kind == "plain":
        url = f"memory://{uuid.uuid4().hex}/models"
    else:
        # A prefix with what URLs and shells care about.
        url = f"{request.getfixturevalue(f'{kind}_url')}/team a/100%+models"
    made = Store(kind, url)
    yield made
    made.close()


@pytest.fixture
def backend(store: Store) -> Backend:
    opened = store.open()
    opened.prepare()
    return opened


def write(backend: Backend, key: str, data: bytes, *, piece: int = MIB) -> None:
    writer = backend.writer(key, len(data))
    for start in range(0, len(data), piece):
        writer.write(memoryview(data)[start : start + piece])
    writer.finish()


def read(backend: Backend, key: str, *, piece: int = MIB) -> bytes:
    source = backend.source(key)
    assert source is not None
    with source:
        return b"".join(pieces(source, piece))


def pieces(source: Source, size: int) -> Iterator[bytes]:
    while data := source.read(size):
        assert len(data) <= size
        yield data


def together(actions: Sequence[Callable[[], Any]]) -> list[Any]:
    """Return what the actions returned, each in a thread of its own, all let go at once."""
    start = threading.Barrier(len(actions))

    def run(action: Callable[[], Any]) -> object:
        start.wait(30)
        return action()

    with ThreadPoolExecutor(len(actions)) as pool:
        return list(pool.map(run, actions))


# --- records ------------------------------------------------------------------------------------


def test_a_record_is_created_once_and_read_back(backend: Backend) -> None:
    assert backend.read(RECORD) is None
    assert backend.create(RECORD, b"one\n")
    assert not backend.create(RECORD, b"two\n")
    assert backend.read(RECORD) == b"one\n"
    assert backend.stat(RECORD) == Stored(RECORD, 4)


def test_what_is_created_with_a_batch_appears_with_all_of_its_folder(backend: Backend) -> None:
    beside = f"{RUN}/20260314T092653Z-9f1c0a7be4d25836/model.onnx"
    fresh = new_guid()
    first, second = f"{fresh}/20260314T092653Z-9f1c0a7be4d25836/a/b", f"{fresh}/revisions/1.json"
    assert backend.create(RECORD, b"one\n")
    with Batch() as batch:
        # Of this run there is something already, so nothing can appear at once.
        assert [backend.create_in(batch, key, b"two\n") for key in (RECORD, beside)] == [None] * 2
        made = [backend.create_in(batch, key, b"two\n") for key in (first, second)]
        batch.sync()
        assert list(backend.children("")) == [RUN]
        batch.finish()
    assert backend.stat(beside) is None
    assert backend.read(RECORD) == b"one\n"
    if not backend.capabilities.shares_waits:
        # It says so, and nothing was done.
        assert made == [None, None]
        assert list(backend.children("")) == [RUN]
        return
    assert [each.created for each in made if each is not None] == [True, True]
    assert backend.read(first) == backend.read(second) == b"two\n"


def test_a_record_is_created_with_a_batch_among_others_if_it_is_absent(backend: Backend) -> None:
    assert backend.create(RECORD, b"one\n")
    beside = RECORD.replace("1.json", "2.json")
    with Batch() as batch:
        made = [backend.create_among(batch, key, b"two\n") for key in (beside, RECORD)]
        pending = [each for each in made if each is not None]
        batch.sync()
        assert backend.stat(beside) is None
        batch.give(pending)
    assert backend.read(RECORD) == b"one\n"
    if backend.capabilities.shares_waits:
        assert [each.created for each in pending] == [True, False]
        assert backend.read(beside) == b"two\n"
    else:
        # It says so, and nothing was done.
        assert made == [None, None]
        assert backend.read(beside) is None


def test_what_was_read_can_be_made_to_last(backend: Backend) -> None:
    assert backend.create(RECORD, b"one\n")
    backend.confirm(RECORD)
    with Batch() as batch:
        backend.confirm_in(batch, RECORD)
        batch.sync()
    assert backend.read(RECORD) == b"one\n"


def test_an_empty_record_is_there(backend: Backend) -> None:
    assert backend.create(RECORD, b"")
    assert backend.read(RECORD) == b""
    assert not backend.create(RECORD, b"two\n")


def test_what_is_absent_is_none(backend: Backend) -> None:
    assert backend.create(RECORD, b"one\n")
    # Absent beside it, absent with its folder, and a folder, which is no file.
    for key in (f"{RUN}/revisions/00000002.json", "no/such/folder.json", f"{RUN}/revisions"):
        assert backend.read(key) is None
        assert backend.stat(key) is None
        assert backend.source(key) is None
        backend.delete(key)
    assert backend.read(RECORD) == b"one\n"


def test_absent_is_absent_before_anything_is_written(store: Store) -> None:
    prepared = store.open()
    prepared.prepare()
    # A new instance each: what is asked first mustn't matter.
    assert store.open().read(RECORD) is None
    assert store.open().stat(RECORD) is None
    fresh = store.open()
    fresh.delete(RECORD)
    assert list(fresh.children("no/such")) == []
    assert list(fresh.walk("no/such")) == []


def test_sixteen_creators_have_one_winner_whose_record_is_read(store: Store) -> None:
    if store.name in FOR_ONE:
        pytest.skip("it says itself that it is for one writer")
    # Own instances: nothing in one process may be what decides.
    backends = [store.open() for _ in range(RACERS)]
    backends[0].prepare()
    assert all(each.capabilities.exclusive_create for each in backends)
    for number in range(1, 4):
        key = f"{RUN}/revisions/{number:08d}.json"

        def racer(n: int, key: str = key) -> bool:
            return backends[n].create(key, b"racer %d\n" % n)

        won = together([lambda n=n: racer(n) for n in range(RACERS)])  # type: ignore[misc] # n=n
        assert won.count(True) == 1
        assert backends[0].read(key) == b"racer %d\n" % won.index(True)


def test_sixteen_processes_on_one_folder_have_one_winner_each_time(tmp_path: Path) -> None:
    code = (
        "import sys; from modeldrop.backend import open_backend\n"
        "b = open_backend(sys.argv[1], {}, None)\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(*(int(b.create(f'race/{n}.json', sys.argv[2].encode())) for n in range(20)))\n"
    )
    root = tmp_path / "backend"
    root.mkdir()
    with contextlib.ExitStack() as stack:
        racers = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-c", code, str(root), f"racer {n}"],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for n in range(RACERS)
        ]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("go\n")
            racer.stdin.flush()
        wins = [racer.communicate()[0].split() for racer in racers]
    backend = LocalBackend(root)
    for number, answers in enumerate(zip(*wins, strict=True)):
        assert answers.count("1") == 1
        winner = answers.index("1")
        assert backend.read(f"race/{number}.json") == f"racer {winner}".encode()
    assert sorted(os.listdir(root / "race")) == sorted(f"{n}.json" for n in range(20))


# --- bytes --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["none", "one byte", "a part", "a part and a byte", "20 MiB"])
def test_bytes_are_seen_whole_and_only_when_finished(backend: Backend, size: str) -> None:
    part = backend.capabilities.chunk_size
    sizes = {"none": 0, "one byte": 1, "a part": part, "a part and a byte": part + 1}
    data = os.urandom(sizes.get(size, 20 * MIB))
    key = layout.bytes_key(RUN, layout.new_upload_id(), "model.bin")
    folder = key.rpartition("/")[0]
    writer = backend.writer(key, len(data))
    for start in range(0, len(data), 3 * MIB):
        writer.write(memoryview(data)[start : start + 3 * MIB])
    assert backend.stat(key) is None
    assert backend.read(key) is None
    assert list(backend.children(folder)) == []
    assert list(backend.walk(RUN)) == []
    writer.finish()
    assert backend.stat(key) == Stored(key, len(data))
    assert list(backend.children(folder)) == ["model.bin"]
    assert read(backend, key) == data
    assert read(backend, key, piece=part + 7) == data


@pytest.mark.parametrize("sent", [0, 1, 20 * MIB])
def test_abort_leaves_nothing_and_never_raises(store: Store, sent: int) -> None:
    backend = store.open()
    backend.prepare()
    writer = backend.writer(f"{RUN}/upload/model.bin", sent)
    writer.write(os.urandom(sent))
    writer.abort()
    writer.abort()
    assert backend.stat(f"{RUN}/upload/model.bin") is None
    assert list(backend.walk(RUN)) == []
    if store.name == "local":
        assert [name for _, _, names in os.walk(store.url) for name in names] == []
    if store.name == "s3":
        assert unfinished_uploads(backend) == []


def test_what_is_left_is_gone_on_with_by_another_or_is_gone(store: Store) -> None:
    backend, key, data = store.open(), f"{RUN}/upload/model.bin", os.urandom(20 * MIB)
    backend.prepare()
    writer = backend.writer(key, len(data))
    assert [writer.token, writer.write(data)] == [None, len(data)]
    token = writer.token
    assert (token is not None) == (store.name in {"s3", "azure"})
    writer.leave()
    writer.leave()
    writer.abort()
    assert backend.stat(key) is None
    assert list(backend.walk(RUN)) == []
    another = store.open()
    resumed = another.resume(key, len(data), token or "8388608:x")
    assert (resumed is None) == (token is None)
    if resumed is not None:
        assert resumed.token == token
        assert resumed.write(data) <= len(data)
        resumed.finish()
        assert read(another, key) == data
        # It came to its end, so there is nothing left to go on with.
        assert another.resume(key, len(data), token or "") is None


def test_a_large_upload_that_fails_half_way_is_told_and_forgotten(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(opened(s3_url)) as backend:
        real = backend._bucket.driver.begin

        def begin(key: str) -> Upload:
            upload = real(key)
            monkeypatch.setattr(upload, "send", failing(upload.send, from_call=2))
            return upload

        monkeypatch.setattr(backend._bucket.driver, "begin", begin)
        writer = backend.writer("upload/model.bin", 40 * MIB)
        with pytest.raises(BackendError, match=r"can't write .*upload/model\.bin: .*broken pipe"):
            writer.write(bytes(40 * MIB))
        assert unfinished_uploads(backend) != []
        writer.abort()
        assert unfinished_uploads(backend) == []
        assert list(backend.walk("")) == []


@pytest.mark.parametrize("kind", ["s3", "azure"])
def test_an_upload_whose_last_answer_was_lost_is_finished(
    kind: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(opened(request.getfixturevalue(f"{kind}_url"))) as backend:
        real = backend._bucket.driver.begin

        def begin(key: str) -> Upload:
            upload = real(key)
            complete = upload.complete

            def lose() -> None:
                complete()
                raise ConnectionResetError

            monkeypatch.setattr(upload, "complete", lose)
            return upload

        monkeypatch.setattr(backend._bucket.driver, "begin", begin)
        data = os.urandom(17 * MIB)
        write(backend, "upload/model.bin", data)
        assert read(backend, "upload/model.bin") == data


def test_an_upload_that_fails_at_its_end_is_finished_only_if_all_of_it_is_there() -> None:
    class Failing:
        parallel = 2
        views = False

        def send(self, number: int, part: bytes) -> None:
            del number, part

        def complete(self) -> None:
            raise ConnectionResetError

    for size, is_there in ((25, True), (24, False)):
        driver: Any = SimpleNamespace(begin=lambda _: Failing(), size=lambda _, size=size: size)
        with ThreadPoolExecutor(2) as pool:
            writer = PartWriter(driver, pool, "key", 10, lambda _: contextlib.nullcontext())
            writer.write(bytes(25))
            refused = contextlib.nullcontext() if is_there else pytest.raises(ConnectionResetError)
            with refused:
                writer.finish()


def test_abort_waits_for_the_parts_under_way_before_the_upload_is_ended() -> None:
    # A part that arrives afterwards stays at some stores, and is paid for.
    go_on, under_way, seen = threading.Event(), threading.Semaphore(0), []

    class Slow:
        parallel = 2
        views = False

        def send(self, number: int, part: bytes) -> None:
            under_way.release()
            assert go_on.wait(30)
            seen.append(f"part {number} of {len(part)}")

        def complete(self) -> None:
            seen.append("complete")

        def discard(self) -> None:
            seen.append("discard")

    driver: Any = SimpleNamespace(begin=lambda _: Slow())
    with ThreadPoolExecutor(2) as pool:
        writer = PartWriter(driver, pool, "key", 10, lambda _: contextlib.nullcontext())
        writer.write(bytes(25))
        under_way.acquire()
        under_way.acquire()
        aborting = threading.Thread(target=writer.abort)
        aborting.start()
        # One that doesn't wait is over by then; one that does can't be.
        aborting.join(0.1)
        go_on.set()
        aborting.join(30)
    assert sorted(seen[:2]) == ["part 1 of 10", "part 2 of 10"]
    assert seen[2:] == ["discard"]


def test_a_file_that_is_never_finished_is_never_seen(backend: Backend) -> None:
    # As when an exception passes by: collecting a writer mustn't commit what it has.
    writer = backend.writer(f"{RUN}/upload/model.bin", 17 * MIB)
    writer.write(os.urandom(17 * MIB))
    key = f"{RUN}/upload/model.bin"
    if isinstance(writer, PartWriter):
        for sending, _ in writer._under_way:
            sending.result()
        writer.abort()
    elif isinstance(writer, LocalWriter):
        writer._syncing.end()
    del writer
    assert backend.stat(key) is None


def test_a_key_that_is_taken_is_never_overwritten_in_a_folder(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    write(backend, "upload/model.bin", b"one")
    with pytest.raises(BackendError, match="there already"):
        write(backend, "upload/model.bin", b"two")
    assert read(backend, "upload/model.bin") == b"one"
    assert os.listdir(tmp_path / "upload") == ["model.bin"]


def test_parts_grow_so_that_the_largest_file_has_few_enough(s3_url: str, azure_url: str) -> None:
    for url, most_parts, largest in ((s3_url, 10_000, 5 * 2**40), (azure_url, 50_000, 190 * 2**40)):
        with contextlib.closing(opened(url)) as backend:
            for size in (0, 8 * MIB, 80_000 * MIB, largest):
                writer = backend.writer("upload/model.bin", size)
                assert -(-size // writer._part_size) <= most_parts
                writer.abort()
            assert backend.writer("upload/small.bin", 1)._part_size == 8 * MIB


@pytest.mark.parametrize("kind", ["local", "s3", "azure"])
def test_memory_is_bounded_however_large_the_file(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = str(tmp_path) if kind == "local" else request.getfixturevalue(f"{kind}_url")
    backend = open_backend(url, {}, None)
    size, block = 80 * MIB, os.urandom(MIB)
    write(backend, "upload/warm.bin", block)
    tracemalloc.start()
    try:
        writer = backend.writer("upload/model.bin", size)
        for _ in range(size // len(block)):
            writer.write(block)
        writer.finish()
        source = backend.source("upload/model.bin")
        assert source is not None
        with source:
            assert sum(map(len, pieces(source, MIB))) == size
        assert tracemalloc.get_traced_memory()[1] < 48 * MIB
    finally:
        tracemalloc.stop()
        backend.close()


# --- listings -----------------------------------------------------------------------------------


def test_every_name_is_stored_under_a_key_that_nothing_misreads(backend: Backend) -> None:
    keys = {name: layout.bytes_key(RUN, "20260101T000000Z-0", name) for name in NAMES}
    assert len(set(keys.values())) == len(NAMES)

    def put(name: str) -> None:
        write(backend, keys[name], name.encode())

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(put, NAMES))
    for name, key in keys.items():
        assert read(backend, key) == name.encode()
        assert backend.read(key) == name.encode()
    assert {file.key for file in backend.walk(RUN)} == set(keys.values())
    assert {file.key for file in backend.walk("")} == set(keys.values())
    top = {key.split("/")[2] for key in keys.values()}
    assert set(backend.children(f"{RUN}/20260101T000000Z-0")) == top


def test_a_listing_knows_its_folder_from_one_whose_name_begins_like_it(backend: Backend) -> None:
    for key in ("a/versions/1", "a/versions/2", "a/versions-old/1", "a/versions.json", "ab/1"):
        backend.create(key, b"")
    assert sorted(backend.children("a")) == ["versions", "versions-old", "versions.json"]
    assert sorted(backend.children("a/versions")) == ["1", "2"]
    assert sorted(backend.children("a", "versions-")) == ["versions-old"]
    assert sorted(backend.children("", "a")) == ["a", "ab"]
    assert sorted(backend.children("a/versions", "3")) == []
    assert sorted(file.key for file in backend.walk("a/versions")) == [
        "a/versions/1",
        "a/versions/2",
    ]
    assert {file.key for file in backend.walk("ab")} == {"ab/1"}


def test_a_folder_of_more_than_a_thousand_is_listed_whole(
    store: Store, moto: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = store.open()
    backend.prepare()
    count = 1_100 if store.name in ("local", "s3") else 120
    names = [f"{n:08d}.json" for n in range(1, count + 1)]
    if store.name == "azure":
        # Its pages are of 5,000.
        monkeypatch.setattr("modeldrop.backend.azure._PAGE", 50)
    fill(store, backend, [f"a/versions/{name}" for name in names])
    assert backend.create("a/versions/folder/x", b"")
    assert sorted(backend.children("a/versions")) == [*names, "folder"]
    assert sorted(backend.children("a/versions", "0000010")) == [
        name for name in names if name.startswith("0000010")
    ]
    assert len(list(backend.walk("a"))) == count + 1
    assert sorted(backend.children("a")) == ["versions"]


def fill(store: Store, backend: Backend, keys: Iterable[str]) -> None:
    """Make many empty files without the cost of a client."""
    if store.name == "s3":
        server = urlsplit(cast("str", backend.endpoint))
        connection = http.client.HTTPConnection(server.hostname or "", server.port)
        with contextlib.closing(connection):
            for key in keys:
                connection.request("PUT", quote(f"/{store.url[5:]}/{key}"), body=b"")
                assert connection.getresponse().read() == b""
    elif store.name == "local":
        for key in keys:
            path = Path(store.url, key)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    else:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda key: backend.create(key, b""), keys))


def test_temporary_names_are_never_listed(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    writer = backend.writer("upload/model.bin", 0)
    assert os.listdir(tmp_path / "upload") != []
    assert list(backend.children("upload")) == []
    assert list(backend.walk("")) == []
    writer.finish()
    assert list(backend.children("upload")) == ["model.bin"]


def test_deleting_twice_is_deleting_once_and_empty_folders_go(
    backend: Backend, store: Store
) -> None:
    backend.create("a/b/1", b"")
    backend.create("a/c/d/2", b"")
    backend.delete("a/c/d/2")
    backend.delete("a/c/d/2")
    assert backend.stat("a/c/d/2") is None
    assert [file.key for file in backend.walk("")] == ["a/b/1"]
    if store.name not in KEEP_FOLDERS:
        assert sorted(backend.children("a")) == ["b"]
    backend.delete("a/b/1")
    assert list(backend.walk("")) == []
    if store.name not in KEEP_FOLDERS:
        assert list(backend.children("")) == []
    assert backend.create("a/b/1", b"again")
    assert backend.read("a/b/1") == b"again"


# --- use ----------------------------------------------------------------------------------------


def test_one_backend_serves_eight_threads(backend: Backend) -> None:
    def work(n: int) -> None:
        data = os.urandom(300_000)
        for i in range(5):
            write(backend, f"{RUN}/upload-{n}/{i}.bin", data)
            assert read(backend, f"{RUN}/upload-{n}/{i}.bin") == data
            assert backend.create(f"{RUN}/records-{n}/{i}.json", b"%d" % i)
            assert backend.read(f"{RUN}/records-{n}/{i}.json") == b"%d" % i
            assert backend.read(f"{RUN}/records-{n}/{i + 1}.json") is None
        assert len(list(backend.children(f"{RUN}/records-{n}"))) == 5

    together([lambda n=n: work(n) for n in range(8)])  # type: ignore[misc] # n=n
    assert len(list(backend.walk(RUN))) == 80


def test_creating_and_deleting_in_one_folder_at_a_time_disturb_nobody(tmp_path: Path) -> None:
    # Deleting removes a folder as empty while others are about to put something into it.
    backend = LocalBackend(tmp_path)

    def work(n: int) -> None:
        for i in range(50):
            assert backend.create(f"a/b/c/{n}-{i}", b"x")
            write(backend, f"a/b/d/{n}-{i}", b"x")
            backend.delete(f"a/b/c/{n}-{i}")
            backend.delete(f"a/b/d/{n}-{i}")

    together([lambda n=n: work(n) for n in range(8)])  # type: ignore[misc] # n=n
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    "key", ["", "/etc/passwd", "../x", "a/../../x", "a/./b", "a//b", "a/", "a\\..\\x", "a\0b"]
)
def test_no_key_leaves_the_backend(store: Store, key: str) -> None:
    # Nothing is asked of the store, so that nothing has to be there.
    backend = store.open()
    for ask in (backend.read, backend.stat, backend.source, backend.delete, backend.local_path):
        with pytest.raises(InvalidName):
            ask(key)
    with pytest.raises(InvalidName):
        backend.create(key, b"")
    with pytest.raises(InvalidName):
        backend.writer(key, 0)
    if key:
        with pytest.raises(InvalidName):
            list(backend.children(key))
        with pytest.raises(InvalidName):
            list(backend.walk(key))


def test_only_a_folder_has_paths(backend: Backend, store: Store) -> None:
    backend.create(RECORD, b"one")
    path = backend.local_path(RECORD)
    assert (path is not None) == (store.name == "local")
    assert path is None or path.read_bytes() == b"one"


def test_only_a_folder_says_how_much_room_is_left(backend: Backend, store: Store) -> None:
    free = backend.free()
    assert (free is not None) == (store.name == "local")
    if free is not None:
        found = os.statvfs(store.url)
        # Others write to this disk, too.
        assert 0.5 < free / (found.f_bavail * found.f_frsize) < 2


def test_the_url_comes_back_as_it_was_given(backend: Backend, store: Store) -> None:
    assert backend.url == store.url
    assert (backend.endpoint is None) == (store.name in ("local", *KEEP_FOLDERS))


def test_what_is_asked_of_s3_takes_as_many_requests_as_it_must(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with contextlib.closing(opened(s3_url)) as backend:
        backend.prepare()
        # Whether the store checks digests is asked once, before the first file.
        write(backend, "b/1", b"first")
        asked: list[str] = []
        real = backend._bucket.driver._fs._call_s3  # type: ignore[attr-defined] # S3Driver

        async def count(method: str, *args: object, **kwargs: object) -> object:
            asked.append(method)
            return await real(method, *args, **kwargs)

        monkeypatch.setattr(backend._bucket.driver._fs, "_call_s3", count)  # type: ignore[attr-defined]
        monkeypatch.setattr(
            backend._bucket.driver._fs,  # type: ignore[attr-defined] # S3Driver
            "call_s3",
            lambda *a, **k: sync_call(backend, count, *a, **k),
        )
        direct: Any = backend._bucket.driver._direct  # type: ignore[attr-defined] # S3Driver
        ask_past = direct._ask

        def count_past(method: str, *args: object, **kwargs: object) -> object:
            asked.append(f"{method}, past s3fs")
            return ask_past(method, *args, **kwargs)

        monkeypatch.setattr(direct, "_ask", count_past)
        costs: dict[str, tuple[Callable[[], object], list[str]]] = {
            "absent": (lambda: backend.read("a/1"), ["GET, past s3fs"]),
            "create": (lambda: backend.create("a/1", b"one"), ["put_object"]),
            "lose": (lambda: backend.create("a/1", b"two"), ["put_object"]),
            "read": (lambda: backend.read("a/1"), ["GET, past s3fs"]),
            "stat": (lambda: backend.stat("a/1"), ["HEAD, past s3fs"]),
            "stat absent": (lambda: backend.stat("a/2"), ["HEAD, past s3fs"]),
            "list": (lambda: list(backend.children("a")), ["list_objects_v2"]),
            "walk": (lambda: list(backend.walk("")), ["list_objects_v2"]),
            "write": (lambda: write(backend, "a/3", b"small"), ["put_object"]),
            "source": (lambda: read(backend, "a/3"), ["GET, past s3fs"]),
            "delete": (lambda: backend.delete("a/3"), ["delete_object"]),
        }
        for name, (ask, requests) in costs.items():
            asked.clear()
            ask()
            assert (name, asked) == (name, requests)


def test_what_only_reads_from_s3_loads_no_s3fs_nor_botocore(s3_url: str, tmp_path: Path) -> None:
    with contextlib.closing(opened(s3_url)) as backend:
        assert backend.create("a/1", b"record")
        write(backend, "b/1", b"weights")
    code = (
        "import sys; from modeldrop.backend import open_backend\n"
        "b = open_backend(sys.argv[1], {}, None); assert b.read('a/1') == b'record'\n"
        "assert b.stat('b/1').size == 7 and b.read('a/2') is None and b.stat('a/2') is None\n"
        "with b.source('b/1', 3) as source: assert source.read(10) == b'ghts'\n"
        "heavy = {'s3fs', 'aiobotocore', 'botocore', 'fsspec', 'ssl'}\n"
        "print(*heavy & set(sys.modules)); b.close()\n"
    )
    asked = [sys.executable, "-c", code, s3_url]
    assert subprocess.run(asked, check=True, capture_output=True, text=True).stdout == "\n"


def sync_call(backend: ObjectBackend, call: Callable[..., Any], *a: object, **k: object) -> object:
    from fsspec.asyn import sync  # noqa: PLC0415 - as the backend does

    return sync(backend._bucket.driver._fs.loop, call, *a, **k)  # type: ignore[attr-defined] # S3Driver


def test_a_backend_works_in_a_forked_child(s3_url: str) -> None:
    # Trainers fork: data loaders do. In a process of its own, which has a test's threads in it
    # no more than a trainer has.
    code = (
        "import os, sys, warnings; from modeldrop.backend import open_backend\n"
        "warnings.simplefilter('ignore', DeprecationWarning)\n"  # fork with threads, from 3.12 on
        "b = open_backend(sys.argv[1], {}, None); assert b.create('a/1', b'parent')\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    os._exit(0 if b.read('a/1') == b'parent' and b.create('a/2', b'child') else 1)\n"
        "assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0\n"
        "assert b.read('a/2') == b'child'\n"
        "b.close()\n"
    )
    subprocess.run([sys.executable, "-c", code, s3_url], check=True, timeout=60)


def test_a_folder_is_opened_without_importing_anything_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from modeldrop.backend import open_backend\n"
        "b = open_backend(sys.argv[1], {}, None); b.prepare(); b.create('a', b''); b.close()\n"
        "print(*sys.modules)\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "backend")],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split()
    heavy = {"fsspec", "s3fs", "adlfs", "botocore", "azure.core", "asyncio", "ssl", "concurrent"}
    assert heavy.isdisjoint(found)


def test_a_store_that_tells_its_time_tells_the_time_of_its_answer(store: Store) -> None:
    backend = store.open()
    backend.prepare()
    told = backend.now()
    # A date has seconds, and these servers have this machine's clock.
    assert told is None or abs((datetime.now(UTC) - told).total_seconds()) < 60
    assert (told is not None) == (store.name in {"s3", "azure"})


def test_closing_twice_is_closing_once(store: Store) -> None:
    backend = store.open()
    backend.close()
    backend.prepare()
    backend.close()
    backend.close()


def opened(url: str) -> ObjectBackend:
    backend = open_backend(url, {}, None)
    assert isinstance(backend, ObjectBackend)
    return backend


def unfinished_uploads(backend: Backend) -> list[object]:
    assert isinstance(backend, ObjectBackend)
    driver: Any = backend._bucket.driver
    found = driver._call("list_multipart_uploads")
    uploads: list[object] = found.get("Uploads", [])
    return uploads


def failing(send: Callable[[int, bytes], None], *, from_call: int) -> Callable[[int, bytes], None]:
    def instead(number: int, part: bytes) -> None:
        if number >= from_call:
            text = "broken pipe"
            raise OSError(text)
        send(number, part)

    return instead


# What a target is made of


def test_copy_that_the_store_makes_has_the_same_bytes_or_is_not_made(store: Store) -> None:
    backend, other = store.open(), store.open()
    backend.prepare()
    data = os.urandom(3 * MIB)
    key = f"{RUN}/upload/100%+a b.bin"
    write(backend, key, data)

    done = other.take(backend, key, "churn/1/copy/100%+a b.bin", len(data))

    assert done == (store.name in {"local", "s3", "azure"})
    if done:
        source = other.source("churn/1/copy/100%+a b.bin")
        assert source is not None
        with source:
            assert b"".join(iter(lambda: source.read(MIB), b"")) == data
    assert not other.take(backend, f"{RUN}/upload/absent", "churn/1/copy/absent", 1)
    assert backend.stat("churn/1/copy/absent") is None


def test_record_is_replaced_where_the_backend_says_so(backend: Backend) -> None:
    if not backend.capabilities.replaces:
        return
    backend.replace("churn/current.json", b"1")
    backend.replace("churn/current.json", b"22")
    assert backend.read("churn/current.json") == b"22"


def test_name_leads_to_one_folder_and_then_to_another(backend: Backend) -> None:
    if not backend.capabilities.leads:
        with contextlib.suppress(BackendError):
            backend.lead("churn/current", "1/a")
            pytest.fail("it can't")
        assert backend.led("churn/current") is None
        return
    write(backend, "churn/1/a/model", b"1")
    write(backend, "churn/2/b/model", b"2")
    assert backend.led("churn/current") is None
    for to in ("1/a", "2/b"):
        with backend.turn("churn/.current.lock", "it"):
            backend.lead("churn/current", to)
        assert backend.led("churn/current") == to
    assert backend.read("churn/current/model") == b"2"


def test_cleared_folder_is_empty_and_its_neighbours_are_not(backend: Backend) -> None:
    for key in ("churn/1/a/model", "churn/1/a/deep/er/model", "churn/1/ab/model", "churn/2/c/m"):
        write(backend, key, b"1")
    begun = backend.writer("churn/1/a/large", 100)
    begun.write(b"1")
    begun.abort()

    backend.clear("churn/1/a")
    backend.clear("churn/1/never")

    left = {each.key for each in backend.walk("churn")}
    assert left == {"churn/1/ab/model", "churn/2/c/m"}
