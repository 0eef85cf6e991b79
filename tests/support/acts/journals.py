"""The journal by itself, shared, fetched and rebuilt."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from modeldrop import Repository
from modeldrop.journal import Journal, NewEntry
from modeldrop.layout import HomePaths
from support.acts.facts import holds, is_clean
from support.acts.naming import begin_registered
from support.acts.world import HOME, RUNS, Act, Fact, Say, new_home, opened
from support.sharing import note


def _journal(root: Path) -> Journal:
    return Journal(HomePaths(root / HOME), "6c1f4b1a-0d53-4d55-8a43-7c1d0a3f5e21", "host")


def _entry(text: str) -> NewEntry:
    return NewEntry("committed", ("run:x~1",), text, {"note": "x" * 100}, "ada")


def _begin_journal(root: Path) -> None:
    (root / HOME).mkdir()


def _append(root: Path, say: Say) -> None:
    journal = _journal(root)
    for group in (["1"], ["2", "3", "4"], ["5"]):
        journal.append(*map(_entry, group))
        say(group)


_TORN: Final = b'{"format":1,"seq":4,"home"'


def _begin_torn(root: Path) -> None:
    _begin_journal(root)
    journal = _journal(root)
    journal.append(_entry("1"))
    before = HomePaths(root / HOME).head.read_bytes()
    journal.append(_entry("2"))
    HomePaths(root / HOME).head.write_bytes(before)
    with HomePaths(root / HOME).journal.open("ab") as file:
        file.write(_TORN)


def _append_to_torn(root: Path, say: Say) -> None:
    _journal(root).append(_entry("3"))
    say(["1", "2", "3"])


def _check_journal(root: Path, told: list[Fact]) -> None:
    journal = _journal(root)
    wanted = [each for group in told for each in group]
    there = [entry.request for entry in journal.entries()]
    assert there[: len(wanted)] == wanted, (there, wanted)
    journal.recover()
    found = [entry.request for entry in journal.entries()]
    assert found[: len(there)] == there
    assert found == [str(number) for number in range(1, len(found) + 1)]
    journal.append(_entry("more"))
    assert [entry.request for entry in journal.entries()] == [*found, "more"]
    assert [entry.seq for entry in journal.entries()] == list(range(1, len(found) + 2))


def _check_torn(root: Path, told: list[Fact]) -> None:
    paths = HomePaths(root / HOME)
    kept = [*(each.read_bytes() for each in paths.torn.glob("*.bin")), paths.journal.read_bytes()]
    # What was cut is kept, whatever else is lost.
    assert any(_TORN in each for each in kept)
    _check_journal(root, told)


def begin_push(root: Path) -> None:
    with new_home(root) as repository:
        note(repository, "a", "b")


def _push(root: Path, say: Say) -> None:
    for text in ("c", "d"):
        with opened(root) as repository:
            done = repository.push()
            say(["pushed", done.seq])
            note(repository, text)
            head = repository.journal.head()
            assert head is not None
            say(["entries", head.seq])
    with opened(root) as repository:
        say(["pushed", repository.push().seq])


def _check_push(root: Path, told: list[Fact]) -> None:
    holds(root, told)
    again: list[Fact] = []
    _push(root, again.append)
    holds(root, again)
    with opened(root) as repository:
        repository.journal.check()
        assert repository.sync.unpushed() == 0


def _begin_fetch(root: Path) -> None:
    new_home(root).close()
    backend = root / HOME / "model-repository"
    with Repository.init(root / "other", backend=str(backend))[0] as repository:
        for text in ("a", "b"):
            note(repository, text)
            repository.push()


def _fetch(root: Path, say: Say) -> None:
    with opened(root) as repository:
        for text in ("c", "d"):
            [fetched] = repository.fetch()
            if fetched.trouble is not None:
                raise fetched.trouble
            say(["fetched", fetched.seq])
            with Repository.open(root / "other") as other:
                note(other, text)
                other.push()


def _check_fetch(root: Path, told: list[Fact]) -> None:
    holds(root, told)
    again: list[Fact] = []
    _fetch(root, again.append)
    holds(root, again)


def _begin_rebuild(root: Path) -> None:
    begin_registered(root)
    with opened(root) as repository:
        repository.push()
        paths = repository.home.paths
        paths.hooks().write_text("{}")
        paths.counter("churn").write_text("damaged")
        paths.intents.joinpath(f"{RUNS[0]}.jsonl").write_text("damaged")
        paths.head.unlink()
        with paths.journal.open("ab") as file:
            file.write(b"damaged\n")
        shutil.copy(paths.journal, root / "aside" / "journal.jsonl")


def _rebuild(root: Path, say: Say) -> None:
    with opened(root) as repository:
        repository.rebuild()
        head = repository.journal.head()
        assert head is not None
        say(["entries", head.seq])
        for version in repository.versions("churn"):
            say(["version", version.version, version.sha256])


def _check_rebuild(root: Path, told: list[Fact]) -> None:
    paths = HomePaths(root / HOME)
    if told:
        holds(root, told)
        with opened(root) as repository:
            # It can be read, or is counted anew.
            repository.versions_at_backend.counter("churn")
            # What could not be read is in nobody's way any more.
            repository.runs_at_backend.open_intents()
    # What was damaged is kept, whatever else is lost.
    journals = [paths.journal, *paths.torn.glob("*journal*")]
    before = (root / "aside" / "journal.jsonl").read_bytes()
    assert before in [each.read_bytes() for each in journals if each.exists()]
    intents = [*paths.intents.glob("*"), *paths.torn.glob("*")]
    assert b"damaged" in [each.read_bytes() for each in intents]
    again: list[Fact] = []
    _rebuild(root, again.append)
    holds(root, again)
    assert not paths.hooks().exists()
    is_clean(root)


JOURNALS: Final = {
    "journal": Act(_begin_journal, _append, _check_journal),
    "journal, torn": Act(_begin_torn, _append_to_torn, _check_torn),
    "push": Act(begin_push, _push, _check_push),
    "fetch": Act(_begin_fetch, _fetch, _check_fetch, killed=True),
    "rebuild": Act(_begin_rebuild, _rebuild, _check_rebuild, whole=False),
}
