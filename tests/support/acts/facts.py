"""What the caller of an act was told, and how that is looked for afterwards."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from modeldrop import Repository, layout
from modeldrop.intake import attempts, requests
from support.acts.world import HOME, RUNS, TARGET, Act, Fact, Say, contents, is_elsewhere, opened
from support.deploying import read_current


def holds(root: Path, told: list[Fact]) -> None:
    """See that what was told is there, by reading alone."""
    with opened(root) as repository:
        entries = [about for entry in repository.log() for about in entry.about]
        for kind, *what in told:
            _KINDS[kind](root, repository, entries, *what)
        moves = [what for kind, *what in told if kind == "alias"]
        if moves:
            made = [each.version for each in repository.alias_moves("churn@champion")]
            assert _is_within([each for [each] in moves], made), (moves, made)
        live = [what for kind, *what in told if kind == "live"]
        if live:
            every = repository.deployments("churn", TARGET)
            assert _is_within([each for [each] in live], [each.version for each in every])


def _is_within(few: list[Any], many: list[Any]) -> bool:
    """Return whether all of a list come in another one, in that order."""
    rest = iter(many)
    return all(each in rest for each in few)


def _revision(
    root: Path, repository: Repository, entries: list[str], run: str, number: int, sha256: str
) -> None:
    revision = repository.runs_at_backend.revision(run, number)
    [artifact] = revision.artifacts
    assert artifact.sha256 == sha256
    assert is_elsewhere() or f"run:{run}~{number}" in entries
    assert repository.transfer.damaged(artifact) == []


def _version(
    root: Path, repository: Repository, entries: list[str], number: int, sha256: str
) -> None:
    resolved, artifact = repository.artifact(f"churn/{number}")
    assert resolved.version is not None
    assert (resolved.version.sha256, artifact.sha256) == (sha256, sha256)
    assert is_elsewhere() or f"churn/{number}" in entries
    assert repository.transfer.damaged(artifact) == []


def _pulled(
    root: Path, repository: Repository, entries: list[str], path: str, wanted: dict[str, str]
) -> None:
    assert contents(Path(path)) == wanted


def _alias(root: Path, repository: Repository, entries: list[str], version: int | None) -> None:
    assert is_elsewhere() or any(each.startswith("churn@champion") for each in entries)


def _live(root: Path, repository: Repository, entries: list[str], version: int) -> None:
    assert read_current(str(root / "target"), "churn") is not None


def _target(root: Path, repository: Repository, entries: list[str], change: int) -> None:
    every = repository.targets_at_backend
    assert every.record(TARGET, change).change == change


def _retired(
    root: Path, repository: Repository, entries: list[str], number: int, retired: bool
) -> None:
    assert repository.retirements_at_backend.record("churn", 1, number).retired == retired
    assert repository.versions_at_backend.version("churn", 1).version == 1


def _entries(root: Path, repository: Repository, entries: list[str], head: int) -> None:
    found = repository.journal.head()
    assert found is not None
    assert found.seq >= head


def _pushed(root: Path, repository: Repository, entries: list[str], seq: int) -> None:
    folder = Path(repository.backend.url, layout.journal_segments(repository.home.id))
    shared = b"".join(each.read_bytes() for each in sorted(folder.glob("*.jsonl")))
    assert shared.count(b"\n") >= seq
    assert repository.home.paths.journal.read_bytes().startswith(shared)


def _fetched(root: Path, repository: Repository, entries: list[str], seq: int) -> None:
    [home] = repository.sync._copies.homes()
    assert sum(1 for _ in repository.sync._copies.entries(home)) >= seq


def _key(
    root: Path, repository: Repository, entries: list[str], number: int, fingerprint: str
) -> None:
    found = repository.sync.sealing.require()
    assert found.key >= number
    assert (found.key > number) or found.fingerprint == fingerprint
    # Whoever has read the disk since can sign by the newest one alone.
    for earlier in range(1, number):
        assert not repository.home.paths.journal_key(earlier).exists()
        assert not repository.home.paths.model_key(earlier).exists()


def _trusted(
    root: Path, repository: Repository, entries: list[str], home: str, fingerprint: str
) -> None:
    pin = repository.sync.sealing.trust.pin(home)
    assert pin is not None
    assert pin.fingerprint == fingerprint


def _is_home(root: Path, repository: Repository, entries: list[str], home: str) -> None:
    assert repository.home.id == home
    assert repository.home.staging.is_dir()


def _dropped(root: Path, repository: Repository, entries: list[str], run: str) -> None:
    said = (repository.home.staging / run / "run.json").read_text()
    assert json.loads(said)["experiment"] == "churn"


def _asked(root: Path, repository: Repository, entries: list[str], run: str) -> None:
    asked: list[str] = []
    requests.Inbox(repository.home.paths).take(lambda request: asked.append(request.run))
    assert run in asked


def _begun(root: Path, repository: Repository, entries: list[str], key: str) -> None:
    [path] = repository.home.paths.begun_uploads(RUNS[0]).glob("*.json")
    assert attempts.BegunUpload.from_bytes(path.read_bytes(), str(path)).key == key


def _collected(root: Path, repository: Repository, entries: list[str]) -> None:
    assert any("#" in each for each in entries)


_KINDS: Final[dict[str, Callable[..., None]]] = {
    "revision": _revision,
    "version": _version,
    "pulled": _pulled,
    "alias": _alias,
    "live": _live,
    "target": _target,
    "retired": _retired,
    "entries": _entries,
    "pushed": _pushed,
    "fetched": _fetched,
    "key": _key,
    "trusted": _trusted,
    "home": _is_home,
    "dropped": _dropped,
    "asked": _asked,
    "begun": _begun,
    "collected": _collected,
}


def is_clean(root: Path) -> None:
    with opened(root) as repository:
        repository.journal.check()
        report = repository.verify(deep=True)
        assert report.ok, report.findings


def repeated(do: Callable[[Path, Say], None], *, same: bool = True) -> Callable[..., None]:
    """Return the check of what is done once more after a crash, with the same answers."""

    def check(root: Path, told: list[Fact]) -> None:
        if (root / HOME / "home.json").exists():
            holds(root, told)
        else:
            assert not told
        again: list[Fact] = []
        do(root, again.append)
        if same:
            assert again[: len(told)] == told, (again, told)
        holds(root, again)
        is_clean(root)

    return check


def act(begin: Callable[[Path], None], do: Callable[[Path, Say], None], **named: Any) -> Act:  # noqa: ANN401 - fields
    return Act(begin, do, repeated(do), **named)


def going_on(do: Callable[[Path, Say], None]) -> Callable[[Path, list[Fact]], None]:
    def check(root: Path, told: list[Fact]) -> None:
        holds(root, told)
        again: list[Fact] = []
        do(root, again.append)
        holds(root, again)
        is_clean(root)

    return check
