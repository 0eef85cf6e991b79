"""Pulling: what is pulled is what was stored, whole, or nothing."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from modeldrop import Repository, batch, disk, unfinished
from modeldrop.backend import Backend
from modeldrop.copies import is_copy
from modeldrop.errors import ArtifactDamaged, BackendError, Conflict, InvalidName
from modeldrop.names import new_guid
from modeldrop.pulling import pull
from modeldrop.records import Artifact, StoredFile
from modeldrop.transfer import Transfer
from modeldrop.unfinished import PREFIX
from support.artifacts import KEY, MIB, data_of, digest, folder_of, left_in, put
from support.children import started
from support.intake import Meddling, die_pulling
from support.stores import model
from support.waiting import comes_true


def test_a_pulled_file_is_what_was_stored(backend: Backend, tmp_path: Path) -> None:
    data = data_of(9 * MIB + 3)
    artifact = Artifact.of_file(put(backend, KEY, data))
    target = tmp_path / "out" / "model"
    assert pull(backend, artifact, target) == target
    assert target.read_bytes() == data
    assert left_in(target.parent) == ["model"]


def test_a_pulled_folder_is_what_was_stored(backend: Backend, tmp_path: Path) -> None:
    contents = {"weights": data_of(300_000), "deep/er/empty": b"", "deep/file": b"x", "é b": b"y"}
    artifact = folder_of(backend, contents)
    target = tmp_path / "out" / "model"
    pull(backend, artifact, target)
    found = {str(p.relative_to(target)): p.read_bytes() for p in target.rglob("*") if p.is_file()}
    assert found == contents
    assert left_in(target.parent) == ["model"]


def test_nothing_has_the_final_name_before_all_is_verified(local: Backend, tmp_path: Path) -> None:
    target = tmp_path / "out" / "model"
    artifact = folder_of(local, {f"{n}": data_of(2 * MIB, n) for n in range(3)})
    seen: set[str] = set()
    pull(local, artifact, target, lambda _: seen.update(left_in(target.parent)))
    assert seen
    assert all(name.startswith(PREFIX) for name in seen)


def test_other_content_under_the_name_is_a_conflict_and_stays(
    local: Backend, tmp_path: Path
) -> None:
    artifact = Artifact.of_file(put(local, KEY, b"model"))
    target = tmp_path / "model"
    for make in (
        lambda: target.write_bytes(b"other"),
        target.mkdir,
        lambda: target.symlink_to(tmp_path / "nowhere"),
    ):
        make()
        with pytest.raises(Conflict, match="isn't what would be pulled"):
            pull(local, artifact, target)
        assert os.path.lexists(target)
        target.rmdir() if target.is_dir() else target.unlink()


def test_the_same_content_under_the_name_is_the_answer(local: Backend, tmp_path: Path) -> None:
    contents = {"a": b"1", "b/c": b"2"}
    artifact = folder_of(local, contents)
    target = tmp_path / "model"
    moved: list[int] = []
    for _ in range(2):
        assert pull(local, artifact, target, moved.append) == target
    assert sum(moved) == 2
    (target / "more").write_text("beside")
    with pytest.raises(Conflict):
        pull(local, artifact, target)


def test_two_pulls_to_one_place_both_succeed(local: Backend, tmp_path: Path) -> None:
    artifact = folder_of(local, {"a": data_of(MIB), "b/c": b"2"})
    target = tmp_path / "model"
    ready = threading.Barrier(4, timeout=20)

    def pull_once(_: int) -> Path:
        waits = iter([True])

        def moved(_: int) -> None:
            # All are under way before any is done.
            if next(waits, False):
                ready.wait()

        return pull(local, artifact, target, moved)

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(pull_once, range(4))) == {target}
    assert is_copy(target, artifact)
    assert "model" in left_in(tmp_path)
    assert not [name for name in left_in(tmp_path) if name.startswith((".tmp-", PREFIX))]


@pytest.mark.parametrize("damage", ["flipped", "shorter", "gone"])
def test_a_damaged_object_is_named_and_leaves_nothing(
    backend: Backend, tmp_path: Path, damage: str
) -> None:
    artifact = folder_of(backend, {"good": b"good", "deep/bad": b"as it was"})
    bad = next(each for each in artifact.files if each.path == "deep/bad")
    backend.delete(bad.key)
    if damage != "gone":
        put(backend, bad.key, b"as it isn" if damage == "flipped" else b"as it")
    with pytest.raises(ArtifactDamaged, match="model/deep/bad") as caught:
        pull(backend, artifact, tmp_path / "out" / "model")
    assert caught.value.detail["objects"] == [f"{backend.url}/{bad.key}"]
    assert left_in(tmp_path / "out") == []
    transfer = Transfer(backend)
    assert transfer.damaged(artifact) == ["deep/bad"]
    assert transfer.missing(artifact) == ([] if damage == "flipped" else ["deep/bad"])


@pytest.mark.parametrize(
    "path", ["../evil", "/evil", "a/../../evil", "a//b", "a/.", "", "a\nb", "a\\b"]
)
def test_a_path_in_a_manifest_never_leads_out(local: Backend, tmp_path: Path, path: str) -> None:
    file = put(local, KEY, b"evil")
    artifact = Artifact.of_folder("model", [StoredFile(path, file.sha256, file.size, KEY)])
    with pytest.raises(ArtifactDamaged, match="leads out"):
        pull(local, artifact, tmp_path / "out" / "model")
    assert left_in(tmp_path) == ["store"]


@pytest.mark.parametrize("name", ["../evil", "..", "/evil", "", "a/b"])
def test_the_name_of_an_artifact_never_leads_out(local: Backend, tmp_path: Path, name: str) -> None:
    file = put(local, KEY, b"evil")
    artifact = Artifact.of_file(StoredFile(name, file.sha256, file.size, KEY))
    with pytest.raises(ArtifactDamaged, match="leads out"):
        pull(local, artifact, tmp_path / "out" / name.lstrip("/"))
    assert left_in(tmp_path) == ["store"]


def test_a_key_in_a_manifest_never_leads_out(local: Backend, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    file = StoredFile("model", digest(b"secret"), 6, "../secret")
    with pytest.raises(InvalidName):
        pull(local, Artifact.of_file(file), tmp_path / "out" / "model")
    assert left_in(tmp_path / "out") == []


@pytest.mark.parametrize("paths", [("a", "a"), ("a", "a/b")])
def test_two_files_with_one_place_are_refused(
    local: Backend, tmp_path: Path, paths: tuple[str, str]
) -> None:
    file = put(local, KEY, b"x")
    every = [StoredFile(path, file.sha256, 1, KEY) for path in paths]
    with pytest.raises(ArtifactDamaged, match="the same place"):
        pull(local, Artifact.of_folder("model", every), tmp_path / "model")


def test_an_interrupted_pull_doesnt_wait_for_the_other_files(
    local: Backend, tmp_path: Path
) -> None:
    artifact = folder_of(local, {f"{n}": bytes(32 * MIB) for n in range(4)})
    arrived = 0
    counting = threading.Lock()

    def interrupt(size: int) -> None:
        nonlocal arrived
        with counting:
            arrived += size
            if arrived == 3 * size:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(local, artifact, tmp_path / "out" / "model", interrupt)
    # The other three of them alone would be 96 MiB.
    assert arrived < 64 * MIB
    assert not (tmp_path / "out" / "model").exists()


def test_the_error_of_one_file_ends_all_at_once_and_is_the_one_that_is_told(
    local: Backend, tmp_path: Path
) -> None:
    artifact = folder_of(local, {f"{n}": bytes(32 * MIB) for n in range(4)})
    arrived: list[int] = []

    def source(key: str, start: int) -> object:
        if key == artifact.files[3].key:
            assert comes_true(lambda: bool(arrived))
            raise BackendError("503 of one file")
        return local.source(key, start)

    failing = Meddling(local, lambda _, data: data)
    failing.source = source  # type: ignore[attr-defined] # in front of the backend's
    with pytest.raises(BackendError, match="503 of one file"):
        pull(failing.as_backend(), artifact, tmp_path / "out" / "model", arrived.append)
    # The other three of them alone would be 96 MiB.
    assert sum(arrived) < 64 * MIB
    assert not (tmp_path / "out" / "model").exists()


def test_killed_while_it_pulls_leaves_nothing_under_the_final_name(
    local: Backend, tmp_path: Path
) -> None:
    data = data_of(6 * MIB)
    artifact = Artifact.of_file(put(local, KEY, data))
    target = tmp_path / "out" / "model"
    size = len(data)
    with started(die_pulling, local.url, KEY, digest(data), size, target, size // 2) as child:
        child.say()
        assert child.was_killed()
    assert left_in(target.parent) == [f"{PREFIX}{artifact.sha256}-1"]
    pull(local, artifact, target)
    assert target.read_bytes() == data
    assert left_in(target.parent) == ["model"]


@pytest.mark.parametrize("how", ["together", "each by itself"])
def test_nothing_gets_its_name_before_it_is_on_the_disk(
    local: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    artifact = folder_of(local, {"a": b"1", "b": b"2", "deep/c": b"3"})
    target = tmp_path / "model"
    monkeypatch.setattr(batch, "go_together", lambda *_: how == "together")
    synced: list[tuple[str, bool]] = []
    sync_path, sync_folder = disk.sync_path, disk.sync_folder

    def noted(name: str, sync: Callable[[Any], None]) -> Callable[[Any], None]:
        def note(what: Any) -> None:  # noqa: ANN401 - a path or a descriptor
            synced.append((name, target.exists()))
            sync(what)

        return note

    monkeypatch.setattr(disk, "sync_whole", noted("whole", lambda _: None))
    monkeypatch.setattr(disk, "sync_path", noted("file", sync_path))
    monkeypatch.setattr(disk, "sync_folder", noted("folder", sync_folder))
    pull(local, artifact, target)
    # At the end the folder that the name is in, and the one that it was in.
    names = {"together": ["whole"], "each by itself": ["file"] * 3 + ["folder"] * 2}[how]
    assert [name for name, named in synced if not named] == names
    assert [name for name, named in synced if named] == ["folder"] * 2


@pytest.mark.parametrize("how", ["sync_whole", "sync_path"])
def test_what_the_disk_didnt_take_gets_no_name_and_leaves_nothing(
    local: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    artifact = folder_of(local, {"a": b"1", "b": b"2", "c": b"3"})
    monkeypatch.setattr(batch, "go_together", lambda *_: how == "sync_whole")

    def fail(_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(disk, how, fail)
    with pytest.raises(OSError, match="Input/output error"):
        pull(local, artifact, tmp_path / "out" / "model")
    assert left_in(tmp_path / "out") == []


def test_what_appears_under_the_name_meanwhile_is_kept(local: Backend, tmp_path: Path) -> None:
    data = data_of(MIB)
    artifact = Artifact("model.bin", "file", digest(data), MIB, (put(local, KEY, data),))
    target = tmp_path / "model.bin"

    def appear(_: int) -> None:
        target.write_text("somebody's")

    with pytest.raises(Conflict):
        pull(local, artifact, target, appear)
    assert target.read_text() == "somebody's"


def test_where_all_places_for_what_is_unfinished_are_taken_a_pull_works_alone(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unfinished, "_MOST", 0)
    run = new_guid()
    repository.upload(run, model(tmp_path / "model", "weights"))

    pulled = repository.pull(f"run:{run}", tmp_path / "out")

    assert pulled.read_text() == "weights"
