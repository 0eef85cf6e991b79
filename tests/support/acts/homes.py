"""Homes that are made and copied, and what a service keeps in one."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Final

from modeldrop import Repository
from modeldrop.batch import Batch
from modeldrop.form import now
from modeldrop.home_records import Intent
from modeldrop.intake import attempts, requests
from modeldrop.intake.walk import observe
from modeldrop.intents import Intents
from modeldrop_daemon.hooks import Hooks
from support.acts.facts import act, going_on, holds, is_clean
from support.acts.journals import begin_push
from support.acts.staging import begin_leave
from support.acts.world import HOME, RUNS, Act, Fact, Say, new_home, opened
from support.sharing import note
from support.stores import model


def _nothing(root: Path) -> None:
    pass


def _init(root: Path, say: Say) -> None:
    repository, _ = Repository.init(root / HOME)
    with repository:
        say(["home", repository.home.id])


def _begin_apart(root: Path) -> None:
    # Each in a folder that nothing else is made in, and waited for with.
    for name in ("disk", "scratch"):
        (root / name).mkdir()


def _init_apart(root: Path, say: Say) -> None:
    backend, staging = root / "disk" / "store" / "models", root / "scratch" / "staging"
    repository, _ = Repository.init(root / HOME, backend=str(backend), staging=str(staging))
    with repository:
        say(["home", repository.home.id])


def _begin_copied(root: Path) -> None:
    with new_home(root) as repository:
        (root / "aside").mkdir()
        for path in (repository.home.paths.journal, repository.home.paths.head):
            shutil.copy(path, root / "aside" / path.name)
        repository.home.disown(repository.home.id)


def _check_claim(root: Path, told: list[Fact]) -> None:
    """See that the journal that it came with is kept, and that a new one names it."""
    holds(root, told)
    _claim(root, lambda _: None)
    for name in ("journal*.jsonl", "HEAD*"):
        [kept] = [each for each in (root / HOME).glob(name) if "-" in each.name]
        [before] = (root / "aside").glob(name)
        assert kept.read_bytes() == before.read_bytes()
    with opened(root) as repository:
        assert [each.kind for each in repository.log()][-1] == "home-copied"
    is_clean(root)


def _disown(root: Path, say: Say) -> None:
    with opened(root) as repository:
        repository.home.disown(repository.home.id)
        say(["disowned"])


def _check_disowned(root: Path, told: list[Fact]) -> None:
    with opened(root) as repository:
        assert not (told and repository.home.is_this_host())


def _claim(root: Path, say: Say) -> None:
    with opened(root) as repository:
        repository.upload(RUNS[0], model(root / "aside" / "model.bin"))
        say(["home", repository.home.id])


def _ask(root: Path, say: Say) -> None:
    with opened(root) as repository:
        requests.ask(repository.home, requests.RETRY, RUNS[0])
        say(["asked", RUNS[0]])


def _begin_uploading(root: Path, say: Say) -> None:
    with opened(root) as repository:
        [seen, *_] = observe(repository.home.staging, RUNS[0]).files
        kept = attempts.Attempts(notes=repository.home.paths.begun_uploads(RUNS[0]))
        kept.begin(seen, "a key", "a token")
        say(["begun", "a key"])


def _keep_hooks(root: Path, say: Say) -> None:
    with opened(root) as repository:
        hooks = Hooks(repository.home)
        for text in ("c", "d"):
            head = repository.journal.head()
            assert head is not None
            hooks._keep(head)
            say(["hooked", head.seq])
            note(repository, text)
        hooks._forget()
        say(["hooked", 0])


def _check_hooks(root: Path, told: list[Fact]) -> None:
    """See that hooks go on where they came to, and that nothing is left where there are none."""
    with opened(root) as repository:
        path = repository.home.paths.hooks()
        there = None
        if path.exists():
            there = Hooks(repository.home)._recall(repository.journal).seq
        last = told[-1][1] if told else None
        after: dict[int | None, set[int | None]] = {
            None: {None, 3},
            3: {3, 4},
            4: {4, None},
            0: {None},
        }
        assert there in after[last], (there, last)


def _begin_intents(root: Path) -> None:
    with new_home(root) as repository, Batch() as batch:
        opened = [
            Intent(
                request=run,
                sequence=f"{run}/revisions",
                owner=run,
                starts_at=1,
                journal_seq=0,
                journal_offset=0,
                user="ada",
                begun_at=now(),
            )
            for run in RUNS[:3]
        ]
        Intents(repository.home.paths.intents).begin_in(batch, opened)
        batch.finish()


def _end_intent(root: Path, say: Say) -> None:
    with opened(root) as repository:
        intents = Intents(repository.home.paths.intents)
        intents.all()
        intents.end(RUNS[0])
        say(["ended"])


def _check_intents(root: Path, told: list[Fact]) -> None:
    """See that the intents of the others are there."""
    with opened(root) as repository:
        found = {each.request for each in Intents(repository.home.paths.intents).all()}
    assert found >= {*RUNS[1:3]}


HOMES: Final = {
    "init": act(_nothing, _init),
    "init, apart": act(_begin_apart, _init_apart, whole=False),
    "claim": Act(_begin_copied, _claim, _check_claim, killed=True),
    "disown": Act(begin_push, _disown, _check_disowned, whole=False),
    "intents": Act(_begin_intents, _end_intent, _check_intents, whole=False),
    "hooks": Act(begin_push, _keep_hooks, _check_hooks, whole=False),
    "retry": Act(begin_leave, _ask, going_on(_ask), whole=False),
    "upload, noted": Act(begin_leave, _begin_uploading, going_on(_begin_uploading), whole=False),
}
