"""Damage to a world, one bit, line or file at a time, and the judgement of what is told then.

What may come of a question once something is damaged: the answer that the whole world gives, or
an error that says so with the right exit code. Whatever is told, no number is given twice or left
out, and nothing that was stored is changed by who asks.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal

from modeldrop import errors
from modeldrop.layout import number_of
from support.questions import READ_ONLY, Told, ask
from support.stores import RUN
from support.world import Snapshot, World

Expected = Literal["told", "same", "either", "any"]
"""`told`: it is an error, or a finding. `same`: it makes no difference. `either`: one of both.
`any`: nobody could know that something is off, so there may be another answer as well."""

INTEGRITY: Final = frozenset({errors.IntegrityError.exit_code})
GONE: Final = INTEGRITY | {
    each.exit_code for each in (errors.NotFound, errors.ConfigError, errors.BackendError)
}
"""Those that are right where what is looked for isn't there, or is looked for elsewhere."""

_BITS: Final = 8
_LOOKED_AT: Final = 16


@dataclass(frozen=True)
class Thing:
    """Something that is written down, and what is expected of each question if it is damaged."""

    name: str
    find: Callable[[World], Path]
    told: tuple[str, ...] = ()
    same: tuple[str, ...] = ()
    either: tuple[str, ...] = ()
    any: tuple[str, ...] = ()
    codes: frozenset[int] = INTEGRITY
    """The exit codes that are right for it."""
    first: int = 1
    """How many bytes apart the bits are that the first question meets; 0 is every bit."""
    stride: int = 1
    """The same for all other questions."""

    def questions(self) -> Iterator[tuple[str, Expected, int]]:
        """Yield the questions that it is asked about, with what is expected, and the stride."""
        every: list[tuple[str, Expected]] = [
            *((each, "told") for each in self.told),
            *((each, "same") for each in self.same),
            *((each, "either") for each in self.either),
            *((each, "any") for each in self.any),
        ]
        for number, (question, expected) in enumerate(every):
            yield question, expected, self.stride if number else self.first

    def bits(self, size: int, stride: int) -> Iterator[tuple[int, int]]:
        """Yield the bytes of so many, and the bit of each, that are flipped one after another."""
        if not stride:
            yield from ((at, bit) for at in range(size) for bit in range(_BITS))
            return
        # Which bit of a byte it is goes round, so that all of them are met.
        for number, at in enumerate(range(0, size, stride)):
            yield at, number % _BITS


def _stored(pattern: str, place: int = 0) -> Callable[[World], Path]:
    return lambda world: sorted(world.store.glob(pattern))[place]


def _kept(pattern: str, place: int = 0) -> Callable[[World], Path]:
    return lambda world: sorted(world.home.glob(pattern))[place]


def _record(pattern: str, place: int = 0) -> Callable[[World], Path]:
    return _stored(f".modeldrop/{pattern}", place)


def _segment(of: Callable[[World], Path], place: int) -> Callable[[World], Path]:
    def find(world: World) -> Path:
        home = str(json.loads((of(world) / "home.json").read_bytes())["home"])
        return sorted((world.store / ".modeldrop" / "journals" / home).iterdir())[place]

    return find


def _claim(world: World) -> Path:
    folder = world.store / ".modeldrop" / "experiments" / "churn" / "registrations"
    [found] = (each for each in folder.iterdir() if json.loads(each.read_bytes())["starts_at"] == 1)
    return found


_CHURN: Final = "experiments/churn"

THINGS: Final[dict[str, Thing]] = {
    each.name: each
    for each in (
        # The home's own account of what happened
        Thing(
            "journal",
            lambda world: world.home / "journal.jsonl",
            told=("check", "log", "verify"),
            same=("rebuild",),
            either=("register", "push", "search", "scan", "settle"),
            stride=97,
        ),
        Thing(
            "HEAD",
            lambda world: world.home / "HEAD",
            told=("log", "verify", "register", "promote", "deploy", "scan"),
            same=("rebuild",),
            first=0,
            stride=5,
        ),
        Thing("counter", _kept("refs/churn"), told=("register", "verify"), stride=3),
        Thing(
            "counter of moves",
            _kept("refs/churn@champion"),
            told=("promote", "verify"),
            stride=3,
        ),
        Thing("counter of deployments", _kept("refs/churn+*"), told=("deploy",), first=3),
        Thing(
            "intent",
            _kept("intents/*.jsonl"),
            # Of which sequence it was, nobody knows then, so nothing is registered.
            told=("settle", "verify", "register"),
            same=("rebuild",),
            stride=7,
        ),
        Thing(
            "home.json",
            lambda world: world.home / "home.json",
            told=("show", "register", "scan", "verify"),
            stride=9,
        ),
        Thing(
            "backend.json",
            lambda world: world.home / "backend.json",
            told=("show", "register", "scan", "verify"),
            stride=9,
        ),
        Thing(
            "config",
            lambda world: world.home / "config.toml",
            either=("show", "register", "scan", "pull"),
            codes=GONE,
        ),
        # What a home keeps, and can make again
        Thing("pushed.json", _kept("pushed.json"), same=("push",)),
        Thing(
            "copy of a journal",
            _kept("journals/*.jsonl"),
            told=("log", "verify"),
            either=("search", "fetch"),
            stride=31,
        ),
        Thing(
            "head of a copy",
            _kept("journals/*.json"),
            told=("log", "verify", "fetch"),
            either=("search",),
            stride=11,
        ),
        # SQLite keeps no checksums: a text of it may lie, and decides nothing (decision 0082).
        Thing("index", _kept("index/index.sqlite"), any=("search",), first=61),
        Thing(
            "memory of a run",
            _kept("service/runs/*/*.json"),
            same=("scan", "status after a scan"),
            first=7,
            stride=29,
        ),
        Thing("when it was fetched", _kept("service/fetched.json"), same=("as of",)),
        Thing("cached bytes", _kept("objects/*/*/*"), same=("path",)),
        Thing("note of the cache", _kept("objects/*/*.json"), same=("path",)),
        Thing(
            "receipt",
            _kept(f"staging/{RUN}/.modeldrop-receipt.json"),
            same=("status", "scan"),
            stride=29,
        ),
        # The backend
        Thing(
            "format.json",
            _record("format.json"),
            told=("register", "verify", "scan", "deploy"),
            either=("show", "pull"),
            stride=7,
        ),
        Thing(
            "manifest",
            _stored(f"{RUN}/revisions/*.json"),
            told=("show", "pull", "verify", "register again"),
            either=("list", "scan", "search", "rebuild", "collect"),
            stride=41,
        ),
        Thing(
            "version",
            _record(f"{_CHURN}/versions/*.json"),
            told=("show", "pull", "verify", "register again"),
            either=("list", "register", "search", "rebuild", "collect", "promote", "deploy"),
            stride=23,
        ),
        Thing(
            "newest version",
            _record(f"{_CHURN}/versions/*.json", -1),
            told=("show", "list", "verify"),
            either=("register", "search", "collect", "promote"),
            stride=29,
        ),
        Thing("claim", _claim, told=("register again", "verify"), either=("collect",), stride=5),
        Thing(
            "move of an alias",
            _record(f"{_CHURN}/aliases/champion/*.json", -1),
            told=("list", "verify", "promote"),
            either=("show", "search", "collect", "rebuild"),
            stride=13,
        ),
        Thing(
            "earlier move of an alias",
            _record(f"{_CHURN}/aliases/champion/*.json"),
            told=("verify",),
            either=("list", "promote", "collect"),
            stride=13,
        ),
        Thing(
            "target",
            _record("targets/*/*.json"),
            told=("deployments", "deploy", "verify"),
            either=("show", "search", "collect", "promote"),
            stride=13,
        ),
        Thing(
            "deployment",
            _record(f"{_CHURN}/deployments/*/*.json", -1),
            told=("deployments", "show", "deploy", "verify"),
            either=("search", "collect", "rebuild"),
            stride=23,
        ),
        Thing(
            "retirement",
            _record(f"{_CHURN}/retirements/*/*.json"),
            told=("verify",),
            either=("show", "search", "collect", "list"),
            stride=3,
        ),
        Thing(
            "collection",
            _stored("*/collections/*.json"),
            told=("verify",),
            either=("show", "pull", "collect"),
            stride=3,
        ),
        Thing(
            "own segment",
            _segment(lambda world: world.home, 0),
            told=("verify",),
            same=("log",),
            either=("push", "rebuild"),
            first=7,
            stride=53,
        ),
        Thing(
            "other's segment",
            _segment(lambda world: world.other, 0),
            told=("fetch", "verify"),
            same=("log",),
            stride=11,
        ),
        Thing(
            "other's newest segment",
            _segment(lambda world: world.other, -1),
            told=("fetch", "verify"),
            same=("log",),
            stride=11,
        ),
        Thing(
            "object",
            _stored(f"{RUN}/*/model.bin"),
            told=("pull", "verify"),
            same=("show",),
            either=("deploy", "path"),
        ),
        Thing("object in a folder", _stored(f"{RUN}/*/folder/a"), told=("pull", "verify")),
        # The target
        Thing(
            "mark of a target",
            lambda world: world.serving / ".modeldrop-target.json",
            told=("deploy",),
            either=("verify",),
            stride=3,
        ),
        Thing(
            "copy at a target",
            lambda world: next((world.serving / "churn" / "current").resolve().rglob("a")),
            told=("verify",),
            either=("deploy",),
        ),
    )
}


# Judging


@dataclass(frozen=True)
class Tally:
    """What came of a number of cases; `failures` say where and why."""

    cases: int
    told: int
    failures: list[str]


def truth(world: World, question: str) -> Told:
    """Return what the whole world answers, which has to be an answer."""
    snapshot = Snapshot(world.root)
    told = ask(world, question)
    assert told.answer, f"{question}: {told}"
    snapshot.put_back()
    return told


class Judge:
    """Asks one question of a world over and over, and holds what is told against the truth."""

    def __init__(self, world: World, question: str, whole: Told) -> None:
        """Remember the world as it is, which is whole."""
        self._world = world
        self._question = question
        self._whole = whole
        self._snapshot = Snapshot(world.root)
        self.cases = self.told = 0
        self.failures: list[str] = []

    def judge(
        self, what: str, expected: Expected, codes: frozenset[int] = INTEGRITY, *only: Path
    ) -> None:
        """Ask, judge what is told, and have the world whole again.

        `only` are the files that were damaged, where no others were: of a question that only
        reads, whether it harmed anything is looked at now and then.
        """
        self.cases += 1
        if only and self._question in READ_ONLY and self.cases % _LOOKED_AT:
            told = ask(self._world, self._question)
            why = self._why_not(told, expected, codes)
            self._snapshot.put_back(*only)
        else:
            before = numbers(self._world)
            damaged = {
                path: None if how == "gone" else _bytes(path)
                for path, how in self._snapshot.changed().items()
            }
            told = ask(self._world, self._question)
            why = self._why_not(told, expected, codes) or self._harm(damaged, before)
            self._snapshot.put_back()
        if why:
            self.failures.append(f"{what}, {self._question}: {why}")
        if told.answer != self._whole.answer:
            self.told += 1

    def tally(self) -> Tally:
        """Return what came of it."""
        return Tally(self.cases, self.told, self.failures)

    def _why_not(self, told: Told, expected: Expected, codes: frozenset[int]) -> str:
        if told.crash:
            return told.crash
        if told.answer == self._whole.answer:
            return "nothing was said" if expected == "told" else ""
        if told.answer:
            may_differ = expected == "any" or self._may_differ(told, expected)
            return "" if may_differ else _difference(self._whole, told)
        if expected == "same":
            return f"it was to make no difference: {told.error}: {told.message}"
        is_right = told.code in codes and told.message and told.hint
        return (
            ""
            if is_right
            else f"exit code {told.code}: {told.error}: {told.message!r}, {told.hint!r}"
        )

    def _may_differ(self, told: Told, expected: Expected) -> bool:
        """Return whether an answer says itself that something is off."""
        if self._question == "collect":
            # What can't be read is left alone.
            return set(json.loads(told.answer)) < set(json.loads(self._whole.answer))
        if self._question == "as of":
            # An answer may be older than it says, and never newer.
            return str(json.loads(told.answer) or "") < str(json.loads(self._whole.answer))
        return self._question == "verify" and expected != "same"

    def _harm(self, damaged: dict[Path, bytes | None], before: dict[str, list[int]]) -> str:
        """Return what was harmed of what is stored by asking; what is damaged has to stay so."""
        store = self._world.store
        changed = {
            path: how
            for path, how in self._snapshot.changed().items()
            if path.is_relative_to(store) and how != "new"
        }
        for path, data in damaged.items():
            now = _bytes(path) if path.exists() else None
            if path.is_relative_to(store) and now != data:
                return f"{path.relative_to(store)} was written to"
            changed.pop(path, None)
        for path, how in changed.items():
            may_go = self._question == "collect" and how == "gone" and RUN not in path.parts
            if not may_go:
                return f"{path.relative_to(store)} is {how}"
        for sequence, after in numbers(self._world).items():
            were = before.get(sequence, [])
            # One above the last one, at most: never a number that was given once.
            following = max(were, default=0) + 1
            if after not in (were, [*were, following]):
                return f"{sequence} had {were}, and has {after}"
        return ""


def _bytes(path: Path) -> bytes:
    return os.readlink(path).encode() if path.is_symlink() else path.read_bytes()


def numbers(world: World) -> dict[str, list[int]]:
    """Return the numbers of every sequence at the backend."""
    found: dict[str, list[int]] = {}
    for folder, _, names in os.walk(world.store):
        there = sorted(filter(None, map(number_of, names)))
        if there:
            found[os.path.relpath(folder, world.store)] = there
    return found


def _difference(whole: Told, told: Told) -> str:
    before, after = json.loads(whole.answer), json.loads(told.answer)
    if isinstance(before, list) and isinstance(after, list):
        before, after = (
            [each for each in before if each not in after],
            [each for each in after if each not in before],
        )
    return f"a silent change: {before} became {after}"[:2000]


# In a process of their own


def truths(root: str, questions: list[str]) -> dict[str, dict[str, Any]]:
    """Return what the whole world answers; what it answers twice differently is no truth."""
    world, found = World(Path(root)), {}
    for question in questions:
        first, second = truth(world, question), truth(world, question)
        assert first == second, f"{question} has several answers"
        found[question] = asdict(first)
    return found


def flip(root: str, name: str, whole: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Flip bits of a thing, one at a time, and ask each time; return what came of each question."""
    world, thing = World(Path(root)), THINGS[name]
    path = thing.find(world)
    data = path.read_bytes()
    done: dict[str, dict[str, Any]] = {}
    for question, expected, stride in thing.questions():
        judge = Judge(world, question, Told(**whole[question]))
        for at, bit in thing.bits(len(data), stride):
            overwrite(path, at, data[at] ^ 1 << bit)
            judge.judge(f"{name}, bit {bit} of byte {at}", expected, thing.codes, path)
        done[question] = asdict(judge.tally())
    return done


def overwrite(path: Path, at: int, byte: int) -> None:
    """Change a byte in place, as a disk does: inode, size and times stay."""
    status = path.stat()
    path.chmod(0o600)
    fd = os.open(path, os.O_WRONLY)
    try:
        os.pwrite(fd, bytes([byte]), at)
    finally:
        os.close(fd)
    path.chmod(status.st_mode)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
