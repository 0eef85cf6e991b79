"""Deployments in processes of their own, and the consumers that read what is live."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from modeldrop import Repository, disk
from modeldrop.backend import open_backend
from modeldrop.backend.objects import ObjectBackend
from modeldrop.deployment_records import Current
from modeldrop.names import new_guid
from support.stores import model
from support.work import die_everywhere

TARGET = "production"


def store_folder(repository: Repository, text: str, experiment: str = "churn") -> str:
    """Store and register a model of three files, each of which says which version it is of."""
    folder = repository.home.paths.root.parent / f"aside-{new_guid()}" / "model"
    for name in ("weights.bin", "vocabulary/words.txt", "config with spaces.json"):
        model(folder / name, f"{text} {name}")
    run = new_guid()
    repository.upload(run, folder)
    version = repository.register(f"run:{run}", experiment).version
    return f"{version.experiment}/{version.version}"


def served(repository: Repository, target: str = TARGET, experiment: str = "churn") -> int | None:
    """Return the version that a consumer finds live now, whole; None if there is none."""
    known = {each.sha256: each.version for each in repository.versions(experiment)}
    url = repository.targets_at_backend.current(target).url
    assert url is not None
    digest = read_current(url, experiment)
    return None if digest is None else known[digest]


def read_current(url: str, experiment: str) -> str | None:
    """Read what is live at a target as a consumer does; return the digest of its bytes.

    Raises:
        Exception: it isn't one whole version.
    """
    if "://" not in url:
        return _read_folder(Path(url) / experiment)
    backend = open_backend(url, {}, None)
    try:
        return _read_store(backend, experiment)
    finally:
        backend.close()


def _read_folder(place: Path) -> str | None:
    """Resolve `current` once, and take all files from where it led."""
    try:
        copy = place / os.readlink(place / "current")
    except FileNotFoundError:
        return None
    [top] = copy.iterdir()
    if top.is_file():
        return hashlib.sha256(top.read_bytes()).hexdigest()
    found = sorted(
        (str(path.relative_to(top)).encode(), hashlib.sha256(path.read_bytes()).hexdigest())
        for path in top.rglob("*")
        if path.is_file()
    )
    lines = b"".join(sha256.encode() + b"  " + path + b"\n" for path, sha256 in found)
    return hashlib.sha256(lines).hexdigest()


def _read_store(backend: Any, experiment: str) -> str | None:  # noqa: ANN401 - any backend
    """Read `current.json` once, and check all files that it names."""
    data = backend.read(f"{experiment}/current.json")
    if data is None:
        return None
    current = Current.from_bytes(data, "current.json")
    for file in current.files:
        found = backend.read(file.key)
        assert found is not None, f"{file.key} is missing"
        assert hashlib.sha256(found).hexdigest() == file.sha256, file.key
    return current.sha256


# In processes of their own


def consume(url: str, experiment: str, known: list[str], stop: str) -> dict[str, Any]:
    """Read what is live again and again until a file appears; return what was found.

    `known` are the digests that may be; it begins once something is live.
    """
    found: dict[str, Any] = {"reads": 0, "versions": [], "wrong": []}
    seen: set[str] = set()
    is_folder = "://" not in url
    backend = None if is_folder else open_backend(url, {}, None)
    while not os.path.exists(stop):
        try:
            if backend is None:
                digest = _read_folder(Path(url) / experiment)
            else:
                digest = _read_store(backend, experiment)
        except Exception as error:  # noqa: BLE001 - whatever a consumer may meet is what is asked for
            found["wrong"].append(f"{type(error).__name__}: {error}")
            continue
        if digest not in known:
            found["wrong"].append(f"found {digest}")
        seen.add(str(digest))
        found["reads"] += 1
    if backend is not None:
        backend.close()
    found["versions"] = sorted(seen)
    found["wrong"] = found["wrong"][:3]
    return found


def deploy(home: str, reference: str, by: str, target: str = TARGET) -> list[object]:
    """Deploy a version; return the deployment's number, whether it was made, and its version."""
    with Repository.open(home) as repository:
        done = repository.deploy(reference, target, by=by)
        return [done.deployment.deployment, done.created, done.deployment.version]


def deploy_each(home: str, references: list[str], by: str) -> list[list[object]]:
    """Deploy some versions one after another; return what `deploy` does of each."""
    return [deploy(home, each, by) for each in references]


def settle(home: str) -> list[list[str]]:
    """Do what the next command does about what died; return what it said."""
    with Repository.open(home) as repository:
        return [[each.outcome, each.what] for each in repository.settle_deployments()]


def deploy_and_die_everywhere(home: str, versions: int) -> int:
    """Die before each call in turn that changes a file system while a version is deployed."""

    def begin(number: int) -> Callable[[], object]:
        return lambda: deploy(home, f"churn/{number % versions + 1}", "anybody")

    return die_everywhere(begin)


# The switch, made non-atomic: what a test has to notice


def lead_in_two_steps(path: str, to: str) -> None:
    """Do what `files.lead_to` does, by removing what is there first."""
    if os.path.lexists(path):
        os.unlink(path)
    # The gap that it has anyway, wide enough for a reader in a tight loop to come by.
    time.sleep(0.002)
    os.symlink(to, path)
    disk.sync_folder(os.path.dirname(path))


def replace_in_two_steps(self: ObjectBackend, key: str, data: bytes) -> None:
    """Do what `ObjectBackend.replace` does, by deleting what is there first."""
    self.delete(key)
    time.sleep(0.002)
    with contextlib.suppress(FileExistsError):
        self.create(key, data)
