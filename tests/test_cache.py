"""The cache of pulled artifacts: verified, pulled anew when it was changed, only in its place."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import pytest

from modeldrop import locks
from modeldrop.backend import Backend, open_backend
from modeldrop.cache import cached
from modeldrop.errors import ArtifactDamaged
from modeldrop.layout import HomePaths
from modeldrop.records import Artifact, StoredFile

RUN = "3f2b8c1e-5d7a-4c0b-9a61-0f6e2d4b7a90"


@pytest.fixture
def backend(tmp_path: Path) -> Backend:
    opened = open_backend(str(tmp_path / "store"), {}, None)
    opened.prepare()
    return opened


class Cache:
    def __init__(self, backend: Backend, home: Path) -> None:
        self._paths = HomePaths(home)
        self._backend = backend
        self._number = 0
        self.moved = 0

    def store(self, data: bytes) -> StoredFile:
        self._number += 1
        key = f"{RUN}/upload/{self._number}"
        writer = self._backend.writer(key, len(data))
        writer.write(data)
        writer.finish()
        return StoredFile("model", hashlib.sha256(data).hexdigest(), len(data), key)

    def folder(self) -> Artifact:
        stored = self.store(b"weights")
        files = [StoredFile(path, stored.sha256, 7, stored.key) for path in ("a", "deep/b")]
        return Artifact.of_folder("model", files)

    def get(self, artifact: Artifact) -> Path:
        def moved(size: int) -> None:
            self.moved += size

        place = self._paths.cached(artifact.sha256, artifact.artifact)
        return cached(self._backend, artifact, place, moved)

    def lock(self, artifact: Artifact) -> Path:
        """Return what whoever pulls it holds."""
        folder = self._paths.cached(artifact.sha256, artifact.artifact).parent
        return folder.with_name(f"{folder.name}.lock")


@pytest.fixture
def cache(backend: Backend, tmp_path: Path) -> Cache:
    return Cache(backend, tmp_path / "home")


def test_a_copy_that_another_process_pulls_is_waited_for_however_long_that_takes(
    cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = Artifact.of_file(cache.store(b"weights"))
    hours = itertools.count(step=3600.0)
    waited = threading.Event()

    def monotonic() -> float:
        now = next(hours)
        # Each look at the lock takes an hour.
        if now > 10 * 3600:
            waited.set()
        return now

    monkeypatch.setattr(locks, "time", SimpleNamespace(monotonic=monotonic))
    lock = cache.lock(artifact)
    lock.parent.mkdir(parents=True)
    with ThreadPoolExecutor(1) as pool:
        with lock.open("w") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            pulled = pool.submit(cache.get, artifact)
            assert waited.wait(30)
            assert not pulled.done()
        assert pulled.result(30).read_bytes() == b"weights"


def test_the_second_look_moves_nothing(cache: Cache) -> None:
    for artifact in (Artifact.of_file(cache.store(b"weights")), cache.folder()):
        cache.moved = 0
        place = cache.get(artifact)
        moved = cache.moved
        assert cache.get(artifact) == place
        assert cache.moved == moved == artifact.size


def test_the_copy_is_read_only(cache: Cache) -> None:
    place = cache.get(cache.folder())
    assert {each.stat().st_mode & 0o777 for each in place.rglob("*") if each.is_file()} == {0o444}


@pytest.mark.parametrize("what", ["changed", "changed in place", "gone", "added", "a link"])
def test_a_copy_that_was_meddled_with_is_pulled_anew(
    cache: Cache, tmp_path: Path, what: str
) -> None:
    artifact = cache.folder()
    place = cache.get(artifact)
    file = place / "deep" / "b"
    if what == "added":
        (place / "deep" / "c").write_text("beside")
    elif what == "changed in place":
        # Of the same size, and with its time put back.
        times = file.stat()
        file.chmod(0o644)
        file.write_text("WEIGHTS")
        file.chmod(0o444)
        os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    elif what == "a link":
        place.rename(tmp_path / "elsewhere")
        place.symlink_to(tmp_path / "elsewhere")
    else:
        file.unlink()
        if what == "changed":
            file.write_text("WEIGHTS")
    assert cache.get(artifact) == place
    assert not place.is_symlink()
    assert file.read_text() == "weights"
    assert sorted(each.name for each in file.parent.iterdir()) == ["b"]
    assert cache.moved == 2 * artifact.size


def test_a_damaged_note_only_costs_another_pull(cache: Cache, tmp_path: Path) -> None:
    artifact = cache.folder()
    place = cache.get(artifact)
    (note,) = (tmp_path / "home" / "objects").rglob("*.json")
    note.write_text("nonsense")
    assert cache.get(artifact) == place
    assert cache.moved == 2 * artifact.size


def test_names_never_meet_those_of_the_cache_itself(cache: Cache) -> None:
    """One digest, and names that its notes and locks might have."""
    stored = cache.store(b"weights")
    names = ["m", "m.json", ".lock", "x" * 255, "m.json.json"]
    artifacts = [Artifact.of_file(StoredFile(name, stored.sha256, 7, stored.key)) for name in names]
    places = [cache.get(each) for each in artifacts]
    assert [place.read_bytes() for place in places] == [b"weights"] * len(names)
    assert cache.moved == 7 * len(names)
    assert [cache.get(each) for each in artifacts] == places
    assert cache.moved == 7 * len(names)


def test_a_damaged_object_leaves_nothing_in_the_cache(cache: Cache, backend: Backend) -> None:
    stored = cache.store(b"weights")
    backend.delete(stored.key)
    artifact = Artifact.of_file(stored)
    with pytest.raises(ArtifactDamaged, match="model"):
        cache.get(artifact)
    place = HomePaths(Path.cwd() / "home").cached(artifact.sha256, "model")
    assert not os.path.lexists(place)


@pytest.mark.parametrize("what", ["the digest", "the name"])
def test_nothing_outside_is_removed_for_a_manifest_that_says_so(
    cache: Cache, tmp_path: Path, what: str
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "data").write_text("mine")
    stored = cache.store(b"weights")
    up = "../../../.."
    sha256 = f"{up}/precious" if what == "the digest" else stored.sha256
    name = "data" if what == "the digest" else f"{up}/precious/data"
    evil = Artifact.of_file(StoredFile(name, sha256, 7, stored.key))
    with pytest.raises(ArtifactDamaged):
        cache.get(evil)
    assert (precious / "data").read_text() == "mine"
