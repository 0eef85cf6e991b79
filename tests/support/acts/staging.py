"""What is dropped into staging, and leaves it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from modeldrop import intake
from modeldrop.errors import SourceChanged
from modeldrop.intake import afterwards, walk
from modeldrop.intake.walk import observe
from support.acts.facts import holds, is_clean
from support.acts.journals import begin_push
from support.acts.world import HOME, RUNS, Act, Fact, Say, contents, new_home, opened
from support.intake import make_run
from support.stores import model


def _begin_drop(root: Path) -> None:
    new_home(root).close()
    model(root / "aside" / "model" / "weights", "dropped")
    model(root / "aside" / "more.bin", "later")
    model(root / "aside" / "other" / "model" / "weights", "dropped anew")


def _drop(root: Path, say: Say) -> None:
    with opened(root) as repository:
        staging, aside = repository.home.staging, root / "aside"
        for path in (aside / "model", aside / "more.bin", aside / "other" / "model"):
            intake.drop(staging, [path], run=RUNS[0], experiment="churn")
            say(["dropped", RUNS[0]])


def _new_run(root: Path, say: Say) -> None:
    with opened(root) as repository:
        run = intake.new_run(repository.home.staging, "churn")
        said = (repository.home.staging / run / "run.json").read_text()
        say(["said", run, said])


def _check_new(root: Path, told: list[Fact]) -> None:
    staging = root / HOME / "staging"
    for _, run, said in told:
        assert (staging / run / "run.json").read_text() == said
    # What has its name is whole.
    for each in staging.glob("[0-9a-f]*"):
        assert "churn" in (each / "run.json").read_text()


def _check_drop(root: Path, told: list[Fact]) -> None:
    """See that what was dropped is stored, be it by the next scan, and nothing else is."""
    parts = [{"model": "dropped"}, {"more.bin": "later"}, {"model": "dropped anew"}]

    def stored() -> dict[str, str]:
        with opened(root) as repository:
            engine = repository.engine()
            engine.scan_once()
            engine.close()
            last = repository.runs_at_backend.latest(RUNS[0])
            if last is None:
                return {}
            found = {}
            for each in last.artifacts:
                [file] = each.files
                data = repository.backend.read(file.key)
                assert data is not None
                found[each.artifact] = data.decode()
            return found

    holds(root, told)
    run = root / HOME / "staging" / RUNS[0]
    held = [json.loads(each.read_bytes()) for each in run.glob(".tmp-drop-*")]
    wanted: dict[str, str] = {}
    for number in range(len(told)):
        wanted |= parts[number]
    allowed = [wanted]
    if len(told) < len(parts):
        after = parts[len(told)]
        allowed.append(wanted | after)
        # A drop into a run that is there holds that open until all of it is in.
        if not told or [*after] in held:
            allowed.append({})
    found = stored()
    assert found in allowed, (found, allowed, held)
    again: list[Fact] = []
    _drop(root, again.append)
    assert stored() == parts[1] | parts[2]
    is_clean(root)


def begin_leave(root: Path) -> None:
    with new_home(root) as repository:
        make_run(repository.home.staging, {"model/a": "weights", "model/b": "words"}, RUNS[0])


def _move(root: Path, say: Say) -> None:
    staging = root / HOME / "staging"
    afterwards.recover(staging)
    if (staging / RUNS[0]).exists():
        place = afterwards.move(staging, RUNS[0], observe(staging, RUNS[0]).signature(), 1)
        say(["moved", str(place.relative_to(staging))])


def _delete(root: Path, say: Say) -> None:
    staging = root / HOME / "staging"
    afterwards.recover(staging)
    if (staging / RUNS[0]).exists():
        signature = observe(staging, RUNS[0]).signature()
        afterwards.delete(staging, RUNS[0], signature, lambda: None)
        say(["deleted"])


def _stay(root: Path, say: Say) -> None:
    """Have a run found changed when it is aside already."""
    staging, looks = root / HOME / "staging", iter([afterwards._check])

    def check(*asked: Any) -> Any:  # noqa: ANN401 - as what it stands for
        real = next(looks, None)
        if real is None:
            raise SourceChanged("it isn't what was committed any more")
        return real(*asked)

    afterwards._check = check  # type: ignore[assignment] # as it is called
    signature = observe(staging, RUNS[0]).signature()
    try:
        afterwards.delete(staging, RUNS[0], signature, lambda: None)
    except SourceChanged:
        say(["stays"])


def _check_stays(root: Path, told: list[Fact]) -> None:
    staging = root / HOME / "staging"
    if told:
        # It is its user's again, who works on it, before the service is started the next time.
        assert (staging / RUNS[0]).is_dir()
    afterwards.recover(staging)
    assert contents(staging / RUNS[0]) == {"model/a": "weights", "model/b": "words"}


def _check_leave(root: Path, told: list[Fact]) -> None:
    """See that a staged copy is in one place, whole; or deleted, all of it."""
    staging = root / HOME / "staging"
    afterwards.recover(staging)
    places = [staging / RUNS[0], *(staging / walk.DONE).glob("*")]
    found = [each for each in places if each.exists()]
    for each in found:
        assert contents(each) == {"model/a": "weights", "model/b": "words"}
    if told:
        where = [str(each.relative_to(staging)) for each in found]
        assert where == ([] if told[0] == ["deleted"] else [told[0][1]])
    assert not list(staging.glob(".modeldrop-*"))


def _check_moved(root: Path, told: list[Fact]) -> None:
    _check_leave(root, told)
    staging = root / HOME / "staging"
    assert len([staging / RUNS[0], *(staging / walk.DONE).glob("*")]) >= 1
    there = [staging / RUNS[0], *(staging / walk.DONE).glob("*")]
    assert len([each for each in there if each.exists()]) == 1


STAGING: Final = {
    "drop": Act(_begin_drop, _drop, _check_drop, whole=False),
    "drop, new": Act(begin_push, _new_run, _check_new, whole=False),
    "leave, stays": Act(begin_leave, _stay, _check_stays, whole=False),
    "leave, moved": Act(begin_leave, _move, _check_moved, whole=False),
    "leave, deleted": Act(begin_leave, _delete, _check_leave, whole=False, killed=True),
}
