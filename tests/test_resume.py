"""An upload that was interrupted goes on from what the store has of it."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from modeldrop import Repository, layout
from modeldrop.backend import Backend, open_backend
from modeldrop.backend.objects import ObjectBackend
from modeldrop.errors import Interrupted, ModeldropError, SourceChanged
from modeldrop.intake.attempts import Attempts, BegunUpload
from modeldrop.intake.observation import SeenFile, Signature
from modeldrop.intake.standings import Standings
from modeldrop.transfer import Sent, Transfer
from support.intake import make_home, scan
from support.proxy import Checking, Proxy
from support.servers import AzuriteServer, MotoServer, Server
from support.service import Home, Service
from support.waiting import comes_true

MIB: Final = 2**20
MOST_AGAIN: Final = 64 * MIB
"""What may be sent twice of a file, whatever happens to the upload."""
RUN: Final = "3f2b8c1e-0000-4000-8000-000000000001"
# The smallest that is sent, other than the last of a file.
PART: Final = MIB
# So much later that Azure's are given up, too, which tells only when they began.
LATER: Final = timedelta(days=30)


def given_up(backend: Backend) -> list[str]:
    """End all that came to no end; return the keys."""
    return [each.key for each in backend.end_unfinished(datetime.now(UTC) + LATER)]


class SmallParts(MotoServer):
    """Takes parts that are smaller than S3's smallest."""

    def command(self, folder: Path) -> list[str]:
        return ["env", f"S3_UPLOAD_PART_MIN_SIZE={PART}", *super().command(folder)]


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    with SmallParts() as server:
        yield server


class Place:
    """A bucket or container behind a proxy."""

    def __init__(self, url: str, proxy: Proxy) -> None:
        self.url = url
        self.proxy = proxy

    def taken(self, name: str = "model.bin") -> int:
        """Return how many bytes came to the proxy, of files of this name."""
        found = list(self.proxy.taken.items())
        return sum(count for path, count in found if path.endswith(f"/{name}"))

    def has_parts(self, count: int) -> bool:
        """Return whether the store comes to have taken so many parts."""

        def taken() -> int:
            every = [each for each in self.proxy.requests if each.status in {200, 201}]
            return sum("partNumber=" in each.path or "blockid=" in each.path for each in every)

        return comes_true(lambda: taken() >= count)

    @contextlib.contextmanager
    def opened(self) -> Iterator[ObjectBackend]:
        backend = open_backend(self.url, {}, None)
        assert isinstance(backend, ObjectBackend)
        with contextlib.closing(backend):
            yield backend


@pytest.fixture(params=["checked s3", "azure"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    kind: str = request.param
    urls = {"azure": "azure_url", "rclone": "rclone_s3_url"}
    url: str = request.getfixturevalue(urls.get(kind, "s3_url"))
    if kind == "azure":
        azurite: AzuriteServer = request.getfixturevalue("azurite")
        with Proxy(azurite.port) as proxy:
            text = azurite.connection_string.replace(azurite.endpoint, proxy.endpoint)
            monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", text)
            yield Place(url, proxy)
        return
    server: Server = request.getfixturevalue("rclone_s3" if kind == "rclone" else "moto")
    with (Checking if kind == "checked s3" else Proxy)(server.port) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.endpoint)
        yield Place(url, proxy)


# --- the service, ended in the middle of a file ---------------------------------------------------


def write_model(path: Path, size: int) -> None:
    """Write a file in which no two MiB are alike."""
    dice = random.Random(size)
    with path.open("wb") as opened:
        for _ in range(size // MIB):
            opened.write(dice.randbytes(MIB))


def drop_model(home: Home, size: int) -> str:
    """Rename a run with one large file into staging; return its GUID."""
    aside = home.folder / "aside"
    aside.mkdir()
    write_model(aside / "model.bin", size)
    aside.rename(home.staging / RUN)
    return RUN


def sent_so_far(place: Place, size: int) -> None:
    """Wait until 60 % of a file have come to the proxy."""
    assert comes_true(lambda: place.taken() >= size * 6 // 10, 60)


def ended(service: Service, number: int) -> None:
    service.signal(number)
    assert service.wait() == (0 if number == signal.SIGTERM else -number), service.log


def is_stored_whole(home: Home, run: str) -> None:
    with Repository.open(home.root) as repository:
        assert repository.verify(deep=True).ok
        (artifact,) = repository.runs_at_backend.committed(run).artifacts
        with (home.staging / run / "model.bin").open("rb") as opened:
            assert artifact.sha256 == hashlib.file_digest(opened, "sha256").hexdigest()


@pytest.fixture
def make_home_at(tmp_path: Path) -> Iterator[Callable[..., Home]]:
    made: list[Home] = []

    def make(url: str, **settings: object) -> Home:
        made.append(Home(tmp_path, url, **settings))
        return made[-1]

    yield make
    for home in made:
        home.close()


@pytest.mark.slow
@pytest.mark.scenario(50)
@pytest.mark.parametrize(
    ("place", "size", "number"),
    [
        ("checked s3", 144, signal.SIGKILL),
        ("s3", 144, signal.SIGTERM),
        ("azure", 144, signal.SIGKILL),
        pytest.param("checked s3", 1024, signal.SIGKILL, marks=pytest.mark.soak),
    ],
    indirect=["place"],
)
@pytest.mark.timeout(300)
def test_service_that_ended_at_60_percent_sends_at_most_64_mib_again(
    place: Place, make_home_at: Callable[..., Home], size: int, number: int
) -> None:
    size *= MIB
    home = make_home_at(place.url, stop_time=0.1)
    place.proxy.rate = 100 * MIB
    service = home.start_ready()
    run = drop_model(home, size)
    sent_so_far(place, size)

    ended(service, number)

    before = place.taken()
    assert before < size
    home.start_ready()
    assert home.is_committed(run, timeout=120)
    again = place.taken() - size
    print(f"{again / MIB:.1f} MiB of {size // MIB} sent again")  # noqa: T201 - shown by -rP
    assert again <= MOST_AGAIN
    assert home.uploads(run) == 1
    place.proxy.rate = None
    is_stored_whole(home, run)
    assert list((home.root / "service" / "uploads").iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("place", ["checked s3"], indirect=True)
def test_connection_that_breaks_in_a_running_service_loses_no_part_that_arrived(
    place: Place, make_home_at: Callable[..., Home]
) -> None:
    size = 144 * MIB
    home = make_home_at(place.url)
    place.proxy.rate = 100 * MIB
    service = home.start_ready()
    run = drop_model(home, size)
    sent_so_far(place, size)

    place.proxy.away = True
    assert home.is_in(run, "blocked")
    place.proxy.away = False

    assert home.is_committed(run, timeout=60)
    assert service.process.poll() is None
    again = place.taken() - size
    print(f"{again / MIB:.1f} MiB of {size // MIB} sent again")  # noqa: T201 - shown by -rP
    assert again <= MOST_AGAIN
    is_stored_whole(home, run)


# --- one file, in small parts ---------------------------------------------------------------------


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("modeldrop.backend.objects._PART", PART)


class Upload:
    """A file that is sent to one key, and may be stopped on the way."""

    def __init__(self, place: Place, path: Path, data: bytes) -> None:
        self.place = place
        self.data = data
        self.key = layout.bytes_key(RUN, layout.new_upload_id(), "model.bin")
        self.token = ""
        self.moved = 0
        self.found = 0
        path.write_bytes(data)
        self._path = path

    @property
    def sent(self) -> Sent:
        """What has to be at the store in the end."""
        return Sent(hashlib.sha256(self.data).hexdigest(), len(self.data))

    def stopped(self, error: type[ModeldropError] = Interrupted, parts: int = 3) -> None:
        """Send so many parts, and then stop."""
        left = parts * PART

        def moved(size: int) -> None:
            nonlocal left
            left -= size
            if left < 0:
                assert self.place.has_parts(parts)
                raise error("stopped")

        def begun(token: str) -> None:
            self.token = token

        with self._open() as fd, self.place.opened() as backend, pytest.raises(error):
            Transfer(backend).send(fd, self.key, len(self.data), lambda: None, moved, begun)

    def resumed(self, token: str | None = None, stop_with: int | None = None) -> Sent | None:
        """Go on, until there are so many parts; count what is sent and what is found."""
        self.moved = self.found = 0

        def moved(size: int) -> None:
            self.moved += size
            if stop_with is not None and self.moved + self.found > stop_with * PART:
                assert self.place.has_parts(stop_with)
                raise Interrupted("stopped")

        def found(size: int) -> None:
            self.found += size

        with self._open() as fd, self.place.opened() as backend:
            return Transfer(backend).resume(
                fd, self.key, token or self.token, len(self.data), lambda: None, moved, found
            )

    def stored(self) -> bytes | None:
        with self.place.opened() as backend:
            source = backend.source(self.key)
            if source is None:
                return None
            with source:
                return b"".join(iter(lambda: source.read(MIB), b""))

    @contextlib.contextmanager
    def _open(self) -> Iterator[int]:
        fd = os.open(self._path, os.O_RDONLY)
        try:
            yield fd
        finally:
            os.close(fd)


@pytest.fixture
def upload(place: Place, tmp_path: Path, small_parts: None) -> Upload:
    return Upload(place, tmp_path / "model.bin", random.Random(1).randbytes(5 * PART + 17))


def driver_of(backend: ObjectBackend) -> Any:  # noqa: ANN401 - of either store
    return backend._bucket.driver


@pytest.mark.parametrize("place", ["s3", "checked s3", "rclone", "azure"], indirect=True)
def test_parts_that_the_store_has_are_not_sent_again(upload: Upload, place: Place) -> None:
    upload.stopped()
    before = place.taken()
    assert upload.stored() is None

    assert upload.resumed() == upload.sent

    assert upload.stored() == upload.data
    assert upload.found == 3 * PART
    assert upload.moved == len(upload.data) - 3 * PART
    assert place.taken("model.bin") - before < upload.moved + 10_000


def test_it_can_be_interrupted_and_gone_on_with_many_times(upload: Upload) -> None:
    upload.stopped(parts=1)
    for parts in (2, 4):
        with pytest.raises(Interrupted):
            upload.resumed(stop_with=parts)
    assert upload.resumed() == upload.sent
    assert upload.found == 4 * PART
    assert upload.stored() == upload.data


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_parts_are_as_large_as_they_were_whatever_is_usual_now(
    upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload.stopped()
    monkeypatch.setattr("modeldrop.backend.objects._PART", 3 * PART)
    assert upload.resumed() == upload.sent
    assert upload.found == 3 * PART
    assert upload.stored() == upload.data


@pytest.mark.parametrize("place", ["s3", "checked s3", "azure"], indirect=True)
def test_a_part_that_is_another_than_the_files_is_sent_again_and_never_mixed(
    upload: Upload, place: Place
) -> None:
    upload.stopped()
    with place.opened() as backend:
        driver = driver_of(backend)
        name = upload.token.partition(":")[2]
        taken = driver.resume(backend._bucket.key(upload.key), name)
        # Azure keeps the one of the same number that was there before, under an id of its own.
        taken.send(2, bytes(PART))
        assert len(driver.resume(backend._bucket.key(upload.key), name).held) == 3
    assert upload.resumed() == upload.sent
    assert upload.found in ({2 * PART, 3 * PART} if place.url.startswith("az") else {2 * PART})
    assert upload.moved + upload.found == len(upload.data)
    assert upload.stored() == upload.data


@pytest.mark.parametrize("place", ["checked s3"], indirect=True)
def test_without_the_comparison_the_same_check_is_red(
    upload: Upload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload.stopped()
    upload.data = bytes(PART) + upload.data[PART:]
    (tmp_path / "model.bin").write_bytes(upload.data)
    monkeypatch.setattr("modeldrop.backend.streams.Held.__eq__", lambda *_: True)
    assert upload.resumed() == upload.sent
    assert upload.stored() != upload.data


def test_bytes_that_changed_unseen_are_sent_in_place_of_what_was_there(
    upload: Upload, tmp_path: Path
) -> None:
    # The intake compares signatures first; this is for what gets past them.
    upload.stopped()
    upload.data = bytes(PART) + upload.data[PART:]
    (tmp_path / "model.bin").write_bytes(upload.data)
    assert upload.resumed() == upload.sent
    assert upload.found == 2 * PART
    assert upload.stored() == upload.data


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_a_listing_of_parts_is_read_to_its_end(
    upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeldrop.backend.s3._PAGE", 2)
    upload.stopped()
    assert upload.resumed() == upload.sent
    assert upload.found == 3 * PART


def test_an_upload_that_was_ended_at_the_store_is_begun_anew(upload: Upload, place: Place) -> None:
    upload.stopped()
    with place.opened() as backend:
        # Moto says of each that it began in 2010, and the upload id says that it was now.
        assert given_up(backend) == [upload.key]
    assert upload.resumed() is None
    assert (upload.moved, upload.found) == (0, 0)


def test_a_token_that_is_none_is_nothing_to_go_on_with(s3_url: str) -> None:
    with contextlib.closing(open_backend(s3_url, {}, None)) as backend:
        for token in ("", ":", "x", "0:", "-5:x", "five:x", "1:x"):
            assert backend.resume(f"{RUN}/upload/model.bin", 5 * MIB, token) is None


def test_a_file_that_had_arrived_whole_is_found_and_not_sent_again(
    upload: Upload, place: Place
) -> None:
    upload.stopped()
    assert upload.resumed() == upload.sent
    before = place.taken()
    assert upload.resumed() == upload.sent
    assert (upload.moved, upload.found) == (0, len(upload.data))
    assert place.taken() - before < 10_000


@pytest.mark.parametrize("place", ["s3"], indirect=True)
def test_other_bytes_of_the_same_size_are_not_taken_for_the_file(
    upload: Upload, tmp_path: Path
) -> None:
    upload.stopped()
    assert upload.resumed() == upload.sent
    (tmp_path / "model.bin").write_bytes(bytes(len(upload.data)))
    assert upload.resumed() is None


def test_a_source_that_changed_leaves_nothing_to_go_on_with_at_s3(
    upload: Upload, place: Place
) -> None:
    upload.stopped(SourceChanged)
    with place.opened() as backend:
        # Azure's blocks can't be forgotten by themselves, and go after a week.
        left = given_up(backend)
    assert left == ([upload.key] if place.url.startswith("az") else [])


def test_nothing_is_left_in_a_folder(tmp_path: Path) -> None:
    with contextlib.closing(open_backend(str(tmp_path / "store"), {}, None)) as backend:
        backend.prepare()
        writer = backend.writer(f"{RUN}/upload/model.bin", 10)
        assert writer.write(b"weights") == 7
        assert writer.token is None
        writer.leave()
        assert [name for _, _, names in os.walk(tmp_path / "store") for name in names] == []
        assert backend.resume(f"{RUN}/upload/model.bin", 10, "5:x") is None


# --- what is noted of it in the home --------------------------------------------------------------


@pytest.fixture
def halfway(
    place: Place, tmp_path: Path, small_parts: None
) -> Iterator[tuple[Repository, Callable[[], str]]]:
    """A home, and what has a scan of it fail after three parts of a run's only file."""
    with make_home(tmp_path / ".mlops", place.url) as repository:
        staged = repository.home.staging / RUN

        def fail() -> str:
            staged.mkdir()
            (staged / "model.bin").write_bytes(random.Random(2).randbytes(5 * PART))
            (staged / "_SUCCESS").touch()
            block = base64.b64encode(b"00000004-").decode()
            place.proxy.answers = lambda seen: (
                503 if "partNumber=4" in seen.path or f"blockid={block}" in seen.path else None
            )
            assert scan(repository)[RUN].state == "blocked"
            place.proxy.answers = lambda _: None
            (note,) = (repository.home.paths.begun_uploads(RUN)).iterdir()
            return BegunUpload.from_bytes(note.read_bytes(), "").key

        yield repository, fail


def stored_key(repository: Repository) -> str:
    (file,) = repository.runs_at_backend.committed(RUN).files().values()
    return file.key


def test_the_next_scan_goes_on_under_the_same_key(
    halfway: tuple[Repository, Callable[[], str]], place: Place
) -> None:
    repository, fail = halfway
    key = fail()
    before = place.taken()

    assert scan(repository)[RUN].state == "committed"

    assert stored_key(repository) == key
    assert place.taken() - before < 2 * PART + 10_000
    assert repository.verify(deep=True).ok
    assert not repository.home.paths.begun_uploads(RUN).exists()
    assert given_up(repository.backend) == []


def test_a_file_that_changed_is_sent_anew_and_the_old_upload_is_ended(
    halfway: tuple[Repository, Callable[[], str]], place: Place
) -> None:
    repository, fail = halfway
    key = fail()
    data = random.Random(3).randbytes(5 * PART)
    (repository.home.staging / RUN / "model.bin").write_bytes(data)

    assert scan(repository)[RUN].state == "committed"

    assert stored_key(repository) != key
    assert repository.verify(deep=True).ok
    left = given_up(repository.backend)
    assert left == ([key] if place.url.startswith("az") else [])


@pytest.mark.parametrize("place", ["s3"], indirect=True)
@pytest.mark.parametrize("how", ["ended", "not to be listed", "old", "damaged"])
def test_what_cant_be_gone_on_with_is_sent_anew_without_a_word(
    how: str,
    place: Place,
    halfway: tuple[Repository, Callable[[], str]],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    repository, fail = halfway
    key = fail()
    if how == "ended":
        given_up(repository.backend)
    elif how == "not to be listed":
        # To whoever may write and not list the parts, which is a right of its own.
        place.proxy.answers = lambda seen: (
            403 if seen.method == "GET" and "uploadId=" in seen.path else None
        )
    elif how == "damaged":
        (note,) = repository.home.paths.begun_uploads(RUN).iterdir()
        note.write_bytes(note.read_bytes()[:-40])
    else:
        later = time.time() + 11 * 86_400
        monkeypatch.setattr("modeldrop.intake.attempts.time.time", lambda: later)
    caplog.clear()

    assert scan(repository)[RUN].state == "committed"

    assert stored_key(repository) != key
    assert repository.verify(deep=True).ok
    assert [each.message for each in caplog.records if each.levelname == "WARNING"] == []
    assert not repository.home.paths.begun_uploads(RUN).exists()
    left = given_up(repository.backend)
    # Nobody knows of it without its note; one that is old goes at the start.
    assert left == ([key] if how in {"damaged", "old"} else [])


def test_notes_of_runs_that_are_gone_are_kept_only_as_long_as_they_are_of_use(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = repository.home.paths
    notes = paths.begun_uploads(RUN)
    seen = SeenFile("model.bin", Signature(1, 2, 30 * MIB, 4, 5))
    Attempts(notes=notes).begin(seen, "key", "5:x")
    for days, kept in ((0, True), (9, True), (11, False)):
        later = time.time() + days * 86_400
        with monkeypatch.context() as patched:
            patched.setattr("modeldrop.intake.attempts.time.time", lambda at=later: at)
            # As each start does.
            Standings(paths)
        assert notes.exists() == kept


def test_a_note_that_cant_be_written_fails_nothing(tmp_path: Path) -> None:
    (tmp_path / "uploads").touch()
    tried = Attempts(notes=tmp_path / "uploads" / RUN)
    seen = SeenFile("model.bin", Signature(1, 2, 30 * MIB, 4, 5))
    tried.begin(seen, "key", "5:x")
    assert tried.begun(seen) is None
    tried.clear()
