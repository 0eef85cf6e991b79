"""A pull that came to no end: the next one goes on with what arrived, and believes none of it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Self, cast

import pytest

from modeldrop import disk, locks, pulling, ranges, transfer, unfinished
from modeldrop.backend import Backend, open_backend
from modeldrop.cache import cached
from modeldrop.errors import ArtifactDamaged, BackendError
from modeldrop.layout import HomePaths
from modeldrop.pulling import pull
from modeldrop.records import Artifact
from modeldrop.unfinished import PREFIX
from support.artifacts import KEY, MIB, data_of, digest, folder_of, left_in, put
from support.children import started
from support.intake import die_pulling
from support.relay import Relay
from support.servers import RcloneS3Server

LARGE: Final = 5 * MIB


@pytest.fixture
def large_is_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have what is done with large files be done with those above 1 MiB."""
    monkeypatch.setattr(pulling, "_LARGE", MIB)
    monkeypatch.setattr(pulling, "_PIECE", MIB // 4)
    monkeypatch.setattr(ranges, "_RANGE", MIB)
    monkeypatch.setattr(ranges, "_PIECE", MIB // 4)
    for module in (pulling, ranges, transfer):
        monkeypatch.setattr(module, "_CHUNK", MIB // 8)


class Watching:
    """A backend that counts the bytes that are read of it, and may change them."""

    def __init__(
        self, backend: Backend, change: Callable[[str, bytes], bytes] = lambda _, data: data
    ) -> None:
        self._backend = backend
        self._change = change
        self._lock = threading.Lock()
        self.read = 0
        self.asked: list[str] = []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the backend has
        found = getattr(self._backend, name)
        if name != "part":
            return found

        def part(key: str, start: int, end: int) -> object:
            self.asked.append(key)
            source = found(key, start, end)
            return None if source is None else _Watched(self, key, source)

        return part

    def source(self, key: str, start: int = 0) -> object:
        self.asked.append(key)
        source = self._backend.source(key, start)
        return None if source is None else _Watched(self, key, source)

    def took(self, key: str, data: bytes) -> bytes:
        with self._lock:
            self.read += len(data)
        return self._change(key, data)

    def as_backend(self) -> Backend:
        """Return itself, for those who look at types."""
        return cast("Backend", self)


class _Watched:
    def __init__(self, watching: Watching, key: str, source: object) -> None:
        self._watching = watching
        self._key = key
        self._source: Any = source

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the source has
        return getattr(self._source, name)

    def within(self, start: int, end: int) -> _Watched:
        return _Watched(self._watching, self._key, self._source.within(start, end))

    def read_into(self, view: memoryview) -> int:
        data = self._watching.took(self._key, self._source.read(len(view)))
        view[: len(data)] = data
        return len(data)

    def __enter__(self) -> Self:
        self._source.__enter__()
        return self

    def __exit__(self, *what: object) -> None:
        self._source.__exit__(*what)


def interrupted(backend: Backend, artifact: Artifact, target: Path, at: int) -> Path:
    """Pull until so many bytes have arrived; return the folder in which they are."""
    arrived, lock = [0], threading.Lock()

    def moved(size: int) -> None:
        with lock:
            arrived[0] += size
        if arrived[0] >= at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(backend, artifact, target, moved)
    return target.parent / f"{PREFIX}{artifact.sha256}-1"


def flip(path: Path, at: int) -> None:
    with path.open("r+b") as opened:
        opened.seek(at)
        byte = opened.read(1)[0]
        opened.seek(at)
        opened.write(bytes([byte ^ 1]))


@pytest.mark.slow
def test_killed_at_60_percent_through_a_slow_proxy_at_most_64_mib_are_fetched_again(
    rclone_s3: RcloneS3Server, rclone_s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"".join(data_of(32 * MIB, number) for number in range(8))
    with contextlib.closing(open_backend(rclone_s3_url, {}, None)) as backend:
        artifact = Artifact.of_file(put(backend, KEY, data))
    target, size = tmp_path / "out" / "model", len(data)
    with Relay(rclone_s3.port, rate=100 * MIB) as relay:
        monkeypatch.setenv("AWS_ENDPOINT_URL", relay.endpoint)
        at = size * 6 // 10
        with started(die_pulling, rclone_s3_url, KEY, digest(data), size, target, at) as child:
            child.say()
            assert child.was_killed()
        before = relay.down
        assert left_in(target.parent) == [f"{PREFIX}{artifact.sha256}-1"]
        with contextlib.closing(open_backend(rclone_s3_url, {}, None)) as backend:
            pull(backend, artifact, target)
        again = relay.down - before
    assert again < size - at + 64 * MIB
    assert digest(target.read_bytes()) == digest(data)
    assert left_in(target.parent) == ["model"]


@pytest.mark.usefixtures("large_is_small")
def test_an_interrupted_pull_fetches_the_rest_and_nothing_else(
    backend: Backend, tmp_path: Path
) -> None:
    contents = {f"small/{number:02}": data_of(60_000, number) for number in range(20)}
    contents["weights"] = data_of(LARGE)
    artifact = folder_of(backend, contents)
    target = tmp_path / "out" / "model"
    first, second = Watching(backend), Watching(backend)
    interrupted(first.as_backend(), artifact, target, artifact.size * 6 // 10)
    assert not target.exists()

    moved: list[int] = []
    pull(second.as_backend(), artifact, target, moved.append)

    found = {str(p.relative_to(target)): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    assert found == contents
    assert left_in(target.parent) == ["model"]
    # What each of the threads was at, and what it hadn't noted.
    assert second.read < artifact.size * 4 // 10 + 2 * MIB
    # Somebody who looks at the progress sees all of it.
    assert sum(moved) == artifact.size


@pytest.mark.usefixtures("large_is_small")
def test_files_that_have_arrived_arent_asked_for_again(local: Backend, tmp_path: Path) -> None:
    artifact = folder_of(local, {f"{number}": data_of(3 * MIB, number) for number in range(6)})
    target = tmp_path / "out" / "model"
    # So little is missing that it can't be a piece of each of them.
    left = interrupted(local, artifact, target, artifact.size - MIB // 2)
    whole = {
        file.key
        for file in artifact.files
        if (path := left / "content" / file.path).exists()
        and digest(path.read_bytes()) == file.sha256
    }
    assert whole
    watching = Watching(local)
    pull(watching.as_backend(), artifact, target)
    assert not whole & set(watching.asked)


@pytest.mark.usefixtures("large_is_small")
@pytest.mark.parametrize("size", [MIB // 2, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("what", ["flipped", "holes", "longer"])
def test_what_arrived_and_is_wrong_is_fetched_anew_and_no_damage_of_the_store(
    backend: Backend, tmp_path: Path, size: int, what: str
) -> None:
    data = data_of(size)
    artifact = Artifact.of_file(put(backend, KEY, data))
    target = tmp_path / "out" / "model"
    left = interrupted(backend, artifact, target, size * 6 // 10)
    if what == "flipped":
        flip(left / "content", 1000)
    elif what == "longer":
        os.truncate(left / "content", size + 5)
    else:
        # As after a power loss: the notes came to the disk, and the bytes didn't.
        (left / "content").write_bytes(b"")
        os.truncate(left / "content", size)
        (left / "arrived").write_bytes(b"0 0 %d\nhalf a li" % size)
    assert pull(backend, artifact, target) == target
    assert target.read_bytes() == data
    assert left_in(target.parent) == ["model"]


def test_what_doesnt_belong_to_the_artifact_never_gets_into_it(
    local: Backend, tmp_path: Path
) -> None:
    artifact = folder_of(local, {"a": data_of(MIB), "b": data_of(MIB, 2)})
    target = tmp_path / "out" / "model"
    left = interrupted(local, artifact, target, MIB)
    (left / "content" / "more").write_text("beside")
    pull(local, artifact, target)
    assert left_in(target) == ["a", "b"]


@pytest.mark.parametrize("what", ["others may write to it", "a link"])
def test_a_folder_that_others_can_have_filled_isnt_used(
    local: Backend, tmp_path: Path, what: str
) -> None:
    artifact = Artifact.of_file(put(local, KEY, b"weights"))
    target = tmp_path / "out" / "model"
    left = target.parent / f"{PREFIX}{artifact.sha256}-1"
    victim = tmp_path / "victim"
    victim.write_text("mine")
    elsewhere = tmp_path / "elsewhere" if what == "a link" else left
    elsewhere.mkdir(parents=True)
    (elsewhere / "content").symlink_to(victim)
    if what == "a link":
        target.parent.mkdir()
        left.symlink_to(elsewhere)
    else:
        left.chmod(0o777)
    pull(local, artifact, target)
    assert target.read_bytes() == b"weights"
    assert victim.read_text() == "mine"
    assert left_in(target.parent) == [left.name, "model"]


def test_a_pull_never_joins_one_that_is_under_way(local: Backend, tmp_path: Path) -> None:
    artifact = folder_of(local, {"a": data_of(MIB), "b": data_of(MIB, 2)})
    target = tmp_path / "out" / "model"
    left = interrupted(local, artifact, target, MIB)
    before = sorted((left / "content").iterdir())
    with locks.hold(left / "lock", what="a test"):
        assert pull(local, artifact, target) == target
        assert sorted((left / "content").iterdir()) == before
    # Nobody is at it any more: the next one that comes to an end removes it.
    other = Artifact.of_file(put(local, f"{KEY}-other", b"other"))
    pull(local, other, target.with_name("other"))
    assert left_in(target.parent) == [left.name, "model", "other"]
    pull(local, artifact, target.with_name("again"))
    assert left_in(target.parent) == ["again", "model", "other"]


@pytest.mark.parametrize("days", [13, 15])
def test_what_came_to_no_end_is_kept_for_two_weeks(
    local: Backend, tmp_path: Path, days: int
) -> None:
    artifact = folder_of(local, {"a": data_of(MIB), "b": data_of(MIB, 2)})
    other = Artifact.of_file(put(local, f"{KEY}-other", b"other"))
    left = interrupted(local, artifact, tmp_path / "out" / "model", MIB)
    then = time.time() - days * 24 * 3600
    os.utime(left, (then, then))
    pull(local, other, left.with_name("other"))
    assert left.exists() == (days < 14)


def died_with_its_name_given(backend: Backend, artifact: Artifact, target: Path) -> Path:
    """Pull as one does that dies between giving the final name and putting its things away."""
    pull(backend, artifact, target)
    left = target.parent / f"{PREFIX}{artifact.sha256}-1"
    left.mkdir(0o700)
    (left / "content").hardlink_to(target)
    return left


def test_what_a_pull_left_that_died_once_its_file_was_there_goes_with_the_next_one(
    local: Backend, tmp_path: Path
) -> None:
    artifact = Artifact.of_file(put(local, KEY, b"weights"))
    died_with_its_name_given(local, artifact, tmp_path / "out" / "model")
    pull(local, artifact, tmp_path / "out" / "model")
    assert left_in(tmp_path / "out") == ["model"]


def test_a_file_that_was_given_its_name_is_never_written_to_again(
    local: Backend, tmp_path: Path
) -> None:
    artifact = Artifact.of_file(put(local, KEY, b"weights"))
    target = tmp_path / "out" / "model"
    died_with_its_name_given(local, artifact, target)
    target.rename(tmp_path / "mine")
    (tmp_path / "mine").write_bytes(b"tuned further")
    pull(local, artifact, target)
    assert (tmp_path / "mine").read_bytes() == b"tuned further"
    assert target.read_bytes() == b"weights"
    assert not target.samefile(tmp_path / "mine")


def test_a_failure_of_the_backend_says_that_what_has_arrived_is_kept(
    local: Backend, tmp_path: Path
) -> None:
    artifact = folder_of(local, {"a": data_of(MIB), "b": data_of(MIB, 2)})
    target = tmp_path / "out" / "model"

    def fails(key: str, data: bytes) -> bytes:
        if key == artifact.files[1].key and not data:
            raise BackendError("503", hint="doing it again is safe")
        return data

    with pytest.raises(BackendError) as caught:
        pull(Watching(local, fails).as_backend(), artifact, target)
    assert caught.value.hint.endswith("the same pull goes on with what has arrived")
    assert left_in(target.parent) == [f"{PREFIX}{artifact.sha256}-1"]


def test_a_failure_before_anything_arrived_leaves_nothing(local: Backend, tmp_path: Path) -> None:
    artifact = Artifact.of_file(put(local, KEY, b"weights"))

    def fails(_key: str, _data: bytes) -> bytes:
        raise BackendError("503")

    with pytest.raises(BackendError):
        pull(Watching(local, fails).as_backend(), artifact, tmp_path / "out" / "model")
    assert left_in(tmp_path / "out") == []


@pytest.mark.parametrize("without", ["locks", "modes"])
def test_where_nobody_can_tell_who_is_at_it_a_pull_is_alone_and_leaves_nothing(
    local: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, without: str
) -> None:
    def refused(_: int) -> bool:
        raise OSError(37, "No locks available")

    if without == "locks":
        monkeypatch.setattr(locks, "_try", refused)
    else:
        monkeypatch.setattr(unfinished, "_is_private", lambda _: False)
    artifact = folder_of(local, {"a": data_of(MIB), "b": data_of(MIB, 2)})
    target = tmp_path / "out" / "model"
    interrupted(local, artifact, target, MIB)
    assert left_in(target.parent) == []
    pull(local, artifact, target)
    assert left_in(target.parent) == ["model"]


@pytest.mark.parametrize("kind", ["a folder", "a link", "a link to a folder"])
def test_what_stands_where_a_file_should_arrive_is_removed(
    local: Backend, tmp_path: Path, kind: str
) -> None:
    artifact = Artifact.of_file(put(local, KEY, data_of(MIB)))
    target = tmp_path / "out" / "model"
    content = interrupted(local, artifact, target, MIB // 2) / "content"
    content.unlink()
    (tmp_path / "elsewhere").mkdir()
    if kind == "a folder":
        content.mkdir()
    else:
        content.symlink_to(tmp_path / ("elsewhere" if "folder" in kind else "nowhere"))
    pull(local, artifact, target)
    assert target.read_bytes() == data_of(MIB)
    assert left_in(tmp_path / "elsewhere") == []
    assert left_in(target.parent) == ["model"]


def test_what_an_earlier_pull_wrote_is_waited_for_file_by_file(
    local: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = folder_of(local, {f"{number}": data_of(MIB, number) for number in range(6)})
    interrupted(local, artifact, tmp_path / "out" / "model", 3 * MIB)
    # The whole file system would tell only of what failed since this pull began.
    monkeypatch.delattr(disk, "sync_whole")
    synced: list[str] = []
    sync = disk.sync_path

    def noted(path: str) -> None:
        synced.append(path)
        sync(path)

    monkeypatch.setattr(disk, "sync_path", noted)
    pull(local, artifact, tmp_path / "out" / "model")
    assert {Path(path).name for path in synced} == {file.path for file in artifact.files}


@pytest.mark.usefixtures("large_is_small")
def test_the_cache_goes_on_as_well(local: Backend, tmp_path: Path) -> None:
    artifact = Artifact.of_file(put(local, KEY, data_of(LARGE)))
    place = HomePaths(tmp_path / "home").cached(artifact.sha256, "model")
    place.parent.mkdir(parents=True)
    interrupted(local, artifact, place, LARGE * 6 // 10)
    watching = Watching(local)
    assert cached(watching.as_backend(), artifact, place, lambda _: None) == place
    assert watching.read < LARGE // 2
    assert place.read_bytes() == data_of(LARGE)
    assert left_in(place.parent) == ["model"]


@pytest.mark.usefixtures("large_is_small")
@pytest.mark.parametrize("size", [1000, LARGE], ids=["small", "large"])
def test_a_bit_that_flips_once_on_the_way_is_no_damage(
    backend: Backend, tmp_path: Path, size: int
) -> None:
    data = data_of(size)
    artifact = Artifact.of_file(put(backend, KEY, data))
    left = [1]

    def change(_key: str, read: bytes) -> bytes:
        if read and left:
            left.pop()
            return bytes([read[0] ^ 1]) + read[1:]
        return read

    assert pull(Watching(backend, change).as_backend(), artifact, tmp_path / "model").exists()
    assert (tmp_path / "model").read_bytes() == data
    assert not left


@pytest.mark.usefixtures("large_is_small")
@pytest.mark.parametrize("size", [1000, LARGE], ids=["small", "large"])
def test_bits_that_flip_each_time_are_damage_also_where_something_had_arrived(
    backend: Backend, tmp_path: Path, size: int
) -> None:
    artifact = Artifact.of_file(put(backend, KEY, data_of(size)))

    def change(_key: str, read: bytes) -> bytes:
        return read[:-1] + bytes([read[-1] ^ 1]) if read else read

    flipping = Watching(backend, change)
    for arrives_before in (False, True):
        if arrives_before and size > MIB:
            interrupted(backend, artifact, tmp_path / "out" / "model", size // 2)
        with pytest.raises(ArtifactDamaged) as caught:
            pull(flipping.as_backend(), artifact, tmp_path / "out" / "model")
        assert caught.value.exit_code == 20
        assert left_in(tmp_path / "out") == []


def test_notes_are_taken_back(tmp_path: Path) -> None:
    artifact = Artifact.of_folder("model", [])

    def note() -> None:
        with unfinished.gather(tmp_path / "m", artifact) as gathered:
            gathered.content.write_bytes(b"x")
            for number, start, end in ((1, 10, 20), (0, 5, 9), (1, 0, 10), (1, 30, 40)):
                gathered.note(number, start, end)
            gathered.note(2, 0, 7)
            gathered.forget(2)
            gathered.note(2, 7, 9)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        note()
    with unfinished.gather(tmp_path / "m", artifact) as gathered:
        assert gathered.arrived(0) == [(5, 9)]
        assert gathered.arrived(1) == [(0, 20), (30, 40)]
        assert gathered.arrived(2) == [(7, 9)]
        assert gathered.arrived(3) == []
