"""What a world is asked, and what may come of it when something there is damaged.

Each question is a function of an open home; its answer is JSON, and the same each time that it is
asked of the same world. An answer that differs from that of the whole world is a silent change.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from modeldrop import Repository
from modeldrop.errors import IntegrityError, ModeldropError
from modeldrop.intake import read_status
from support.letting import collect
from support.stores import RUN
from support.world import PENDING, STAGED, TARGET, WAITING, World

Question = Callable[[World, Repository], object]

QUESTIONS: Final[dict[str, Question]] = {}


def _question(ask: Question) -> Question:
    QUESTIONS[ask.__name__.strip("_").replace("_", " ")] = ask
    return ask


# Reading


@_question
def _show(_: World, home: Repository) -> object:
    return [home.describe(each) for each in home.versions("churn")]


@_question
def _list(_: World, home: Repository) -> object:
    runs = sorted((each.run, each.revision, each.content()) for each in home.runs())
    names = [each.as_json() for each in home.experiments()]
    return [runs, names, [each.as_json() for each in home.aliases("churn")]]


@_question
def _deployments(_: World, home: Repository) -> object:
    live = [each.as_json() for each in home.deployments("churn")]
    return [live, [each.as_json() for each in home.targets()]]


@_question
def _check(_: World, home: Repository) -> object:
    return home.journal.check()


@_question
def _log(_: World, home: Repository) -> object:
    return sorted((each.home, each.seq, each.sha256) for each in home.log())


@_question
def _search(_: World, home: Repository) -> object:
    found, runs = home.finding.search("experiment=churn").found, home.finding.runs()
    said: list[object] = [[each.metadata(), each.formats(), each.runs_code()] for each in found]
    said += [[each.metadata(), each.formats(), each.artifacts()] for each in runs]
    return [_plain(found), _plain(runs), said]


@_question
def _as_of(_: World, home: Repository) -> object:
    return home.finding.search("experiment=churn").as_of


@_question
def _pull(world: World, home: Repository) -> object:
    # What a question before it left there would not be pulled again.
    for each in world.pulled.iterdir():
        shutil.rmtree(each)
    return [
        _digests(home.pull(f"churn/{number}", world.pulled / f"{number}")) for number in (1, 2, 3)
    ]


@_question
def _path(_: World, home: Repository) -> object:
    return _digests(home.path("churn/1"))


@_question
def _status(world: World, home: Repository) -> object:
    found = read_status(home.home)
    return [found.counts, [[each.run, each.state] for each in found.runs], len(found.junk)]


@_question
def _verify(_: World, home: Repository) -> object:
    return sorted(f"{each.kind} {each.where}" for each in home.verify(deep=True).findings)


# Writing


@_question
def _register_again(_: World, home: Repository) -> object:
    told = [home.register(RUN, "churn", name) for name in ("model.bin", "folder")]
    return [[each.version.as_json(), each.created] for each in told]


@_question
def _register(_: World, home: Repository) -> object:
    told = home.register(WAITING, "churn")
    return [told.version.version, told.version.sha256, told.created]


@_question
def _register_anew(_: World, home: Repository) -> object:
    told = home.register(RUN, "churn", "model.bin", again=True)
    return [told.version.version, told.version.sha256, told.created]


@_question
def _settle(_: World, home: Repository) -> object:
    told = home.register(WAITING, PENDING)
    versions = [each.version for each in home.versions(PENDING)]
    entries = [each.about[0] for each in home.log() if each.about[0].startswith(f"{PENDING}/")]
    return [told.version.version, told.created, versions, entries]


@_question
def _promote(_: World, home: Repository) -> object:
    moved = home.promote("churn/1", "champion")
    return [moved.move.move, moved.move.before, moved.move.sha256]


@_question
def _deploy(world: World, home: Repository) -> object:
    done = home.deploy("churn/1", TARGET)
    live = world.serving / "churn" / "current"
    return [done.deployment.deployment, done.deployment.before, _digests(live.resolve())]


@_question
def _scan(_: World, home: Repository) -> object:
    _scanned(home)
    return [[run, home.runs_at_backend.numbers(run)] for run in (RUN, STAGED)]


@_question
def _status_after_a_scan(world: World, home: Repository) -> object:
    _scanned(home)
    return _status(world, home)


@_question
def _push(_: World, home: Repository) -> object:
    return home.push().seq


@_question
def _fetch(_: World, home: Repository) -> object:
    fetched = home.fetch()
    for each in fetched:
        if each.trouble is not None:
            raise each.trouble
    return [[each.home, each.seq] for each in fetched]


@_question
def _rebuild(_: World, home: Repository) -> object:
    done = home.rebuild()
    if done.troubles:
        raise IntegrityError("; ".join(done.troubles), hint="it was told")
    # Whatever it was made of, it tells of all that this home did, once.
    mine = (each for each in home.log() if each.home == home.home.id)
    return sorted(each.about[0] for each in mine if each.kind != "home-rebuilt")


@_question
def _verify_after_a_rebuild(world: World, home: Repository) -> object:
    _rebuild(world, home)
    return _verify(world, home)


@_question
def _collect(_: World, home: Repository) -> object:
    found = collect(home, 60)
    troubles = [each.trouble for each in found if each.trouble]
    if troubles:
        raise IntegrityError("; ".join(map(str, troubles)), hint="it was told")
    return sorted(each.where for each in found)


def _scanned(home: Repository) -> None:
    engine = home.engine()
    try:
        left = engine.scan_once()
    finally:
        engine.close()
    for each in left:
        if each.state in {"blocked", "parked"}:
            # With its reason, `status` shows it: it was told.
            raise IntegrityError(each.reason, hint="it is tried again")


READ_ONLY: Final = frozenset(
    ("show", "list", "deployments", "check", "log", "search", "as of", "pull", "path", "verify")
)
"""Those that write nothing that matters: at most to the index and the cache."""


# Asking


@dataclass(frozen=True)
class Told:
    """What came of a question: an answer, an error that is meant for people, or neither."""

    answer: str = ""
    error: str = ""
    """The name of its class."""
    code: int = 0
    message: str = ""
    hint: str = ""
    crash: str = ""
    """Where an exception came from that nobody documented."""


def ask(world: World, question: str) -> Told:
    """Open the home and ask it."""
    try:
        with world.open() as home:
            return Told(answer=json.dumps(QUESTIONS[question](world, home), default=str))
    except ModeldropError as error:
        name = type(error).__name__
        return Told(error=name, code=error.exit_code, message=error.message, hint=error.hint)
    except Exception:  # noqa: BLE001 - whatever it is, it is what is looked for
        return Told(crash=traceback.format_exc())


def _plain(found: list[Any]) -> object:
    return [msgspec.to_builtins(each, enc_hook=str) for each in found]


def _digests(path: Path) -> object:
    if path.is_file():
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return sorted(
        [str(each.relative_to(path)), hashlib.sha256(each.read_bytes()).hexdigest()]
        for each in path.rglob("*")
        if each.is_file()
    )
