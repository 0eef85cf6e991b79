"""Copies that are pulled, packed and imported."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Final

from modeldrop import pulling
from modeldrop.imports import opening
from modeldrop.imports.carrying import Options, carry
from modeldrop.imports.packing import pack
from support.acts.facts import act, repeated
from support.acts.storing import begin_upload, upload
from support.acts.world import HOME, RUNS, Act, Fact, Say, contents, new_home, opened


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def begin_pull(root: Path) -> None:
    begin_upload(root)
    upload(root, lambda _: None)
    with opened(root) as repository:
        for run in RUNS[:2]:
            repository.register(run, "churn")


def _pull(root: Path, say: Say) -> None:
    with opened(root) as repository:
        for number in (1, 2):
            place = repository.pull(f"churn/{number}", root / "out")
            say(["pulled", str(place), contents(place)])
        for number in (1, 2):
            place = repository.path(f"churn/{number}")
            say(["pulled", str(place), contents(place)])


def _pull_large(root: Path, say: Say) -> None:
    pulling._LARGE = 16  # type: ignore[misc] # as if it were large
    pulling._PIECE = 64  # type: ignore[misc] # the same
    _pull(root, say)


def _check_pull(root: Path, told: list[Fact]) -> None:
    # Whatever has its name is whole.
    for each in (root / "out").glob("[!.]*"):
        assert contents(each) == contents(root / "aside" / each.name)
    repeated(_pull)(root, told)


def _begin_pack(root: Path) -> None:
    begin_pull(root)
    (root / "out").mkdir()
    (root / "out" / "old.tar").write_bytes(b"an older bundle")


def _pack(root: Path, say: Say) -> None:
    with opened(root) as repository:
        named = [repository.resolve("churn/1")]
        for name in ("new.tar", "old.tar"):
            path = root / "out" / name
            pack(repository, named, path, history=True, replace=path.exists())
            say(["packed", name, _sha256(path.read_bytes())])


def _check_pack(root: Path, told: list[Fact]) -> None:
    for _, name, sha256 in told:
        assert _sha256((root / "out" / name).read_bytes()) == sha256
    old, new = root / "out" / "old.tar", root / "out" / "new.tar"
    for path in (old, new):
        data = path.read_bytes() if path.exists() else b"an older bundle"
        # Whole: a tar ends with two empty blocks.
        assert data == b"an older bundle" or data.endswith(bytes(1024))
    assert old.exists()


def _begin_import(root: Path) -> None:
    begin_pull(root)
    with opened(root) as repository:
        repository.promote("churn/2", "champion")
        named = [repository.resolve("churn/1"), repository.resolve("churn@champion")]
        pack(repository, named, root / "bundle.tar", history=True)
    shutil.rmtree(root / HOME)
    new_home(root).close()


def _import(root: Path, say: Say) -> None:
    with opened(root) as repository, opening.bundle(root / "bundle.tar") as source:
        assert carry(repository, source, Options()).complete
        for version in repository.versions("churn"):
            say(["version", version.version, version.sha256])
        say(["alias", 2])


COPIES: Final = {
    "pull": Act(begin_pull, _pull, _check_pull),
    "pull, large": Act(begin_pull, _pull_large, _check_pull, whole=False),
    "export": Act(_begin_pack, _pack, _check_pack, whole=False),
    "import": act(_begin_import, _import, whole=False, killed=True, other=True),
}
