"""Deployment targets: named places to deploy to, each with its URL and its gates.

What a target is stands in a sequence at the backend, so a gate holds on every host, and whoever
opened one is on record. A place bears a marker that says whose it is: a disk that isn't mounted, or
another machine's folder of the same name, is never taken for it.

An alias and a target never bear the same name, since both are named by `churn@NAME`.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

from modeldrop import layout, locks
from modeldrop.admission import check_backend
from modeldrop.aliases import Aliases
from modeldrop.backend import open_backend
from modeldrop.backend.base import Backend
from modeldrop.backend.patience import patiently
from modeldrop.deployment_records import Target, TargetMarker
from modeldrop.errors import (
    BackendError,
    BucketNotFound,
    ConfigError,
    Conflict,
    IntegrityError,
    InvalidName,
    TargetNotFound,
)
from modeldrop.form import now
from modeldrop.home import Home
from modeldrop.intents import Intents
from modeldrop.journal import Journal, NewEntry
from modeldrop.ledger import Ledger, Request
from modeldrop.names import check_alias, check_target, check_text, is_alias
from modeldrop.sequence import Sequence
from modeldrop.structs import Frozen, replace
from modeldrop.versions import Versions

TARGET_SET: Final = "target-set"
TARGET_REMOVED: Final = "target-removed"

KEEP: Final = 3


class Gates(Frozen):
    """What has to hold before anything is deployed to a target, and what stays there."""

    production: bool = False
    require_alias: str | None = None
    require_verified: bool = False
    confirm: bool = False
    keep: int = KEEP

    def checked(self) -> Gates:
        """Return them as they are recorded: production has a gate, whether one is asked for or not.

        Raises:
            InvalidName: the alias can't be one, or nothing is to be kept.
        """
        if self.require_alias is not None:
            check_alias(self.require_alias)
        if self.keep < 1:
            message = f"a target keeps one copy at least, and {self.keep} was asked for"
            raise InvalidName(message, hint="with `--keep 1` only what is live stays")
        if self.production and not (self.require_alias or self.require_verified or self.confirm):
            return replace(self, require_verified=True)
        return self


class TargetSet(Frozen):
    """The record that says what a target is now."""

    target: Target
    created: bool
    """Whether this call made it; False if the target was so already."""


class Targets:
    """The targets of a repository."""

    def __init__(
        self, home: Home, backend: Backend, journal: Journal, versions: Versions, aliases: Aliases
    ) -> None:
        """Read and set targets at `backend`."""
        self._home = home
        self._backend = backend
        self._journal = journal
        self._versions = versions
        self._aliases = aliases
        self._opened: dict[str, Backend] = {}
        self._opening = threading.Lock()

    def names(self) -> list[str]:
        """Return the names of all targets that there ever were, by a listing."""
        found = patiently(lambda: list(self._backend.children(layout.TARGETS)))
        return sorted(name for name in found if is_alias(name))

    def numbers(self, name: str) -> list[int]:
        """Return the numbers of a target's records by listing them: for those who check."""
        return self._sequence(name).numbers()

    def newest(self, name: str) -> Target | None:
        """Return what a target is or was; None if there never was one of that name."""
        return self._read(name, self._sequence(name).last())

    def current(self, name: str) -> Target:
        """Return what a target is.

        Raises:
            InvalidName: it is no name of a target.
            TargetNotFound: there is none, or it was removed.
        """
        found = self.newest(check_target(name))
        if found is None or found.url is None:
            why = "" if found is None else f" any more: {told(found)}"
            raise TargetNotFound(
                f"there is no target {name}{why} at {self._backend.url}",
                hint="`modeldrop target list` lists them; `modeldrop target add` makes one",
            )
        return found

    def record(self, name: str, number: int) -> Target:
        """Return one record of a target.

        Raises:
            TargetNotFound: there is no such record.
        """
        found = self._read(name, number)
        if found is None:
            message = f"there is no target:{name}~{number} at {self._backend.url}"
            raise TargetNotFound(message, hint="`modeldrop target list` lists what there is")
        return found

    def all(self, damaged: Callable[[IntegrityError], None] | None = None) -> list[Target]:
        """Return what each target is, by name; those that were removed are left out.

        With `damaged`, what can't be read is told to it, and the others are returned.

        Raises:
            IntegrityError: a record is damaged, and there is no `damaged`.
        """
        found = []
        for name in self.names():
            try:
                target = self.newest(name)
            except IntegrityError as error:
                if damaged is None:
                    raise
                damaged(error)
                continue
            if target is not None and target.url is not None:
                found.append(target)
        return found

    def set(
        self, name: str, url: str, gates: Gates, request: Request, *, by: str, reason: str = ""
    ) -> TargetSet:
        """Make a target, or change its gates; one that is so already is left alone.

        The place is made ready and marked first. A crash leaves a mark, which the next one finds.

        Raises:
            InvalidName: it is no name of a target, or a text can't be stored.
            Conflict: an alias bears the name, the target is at another URL, or the place is
                another target's.
            ConfigError: nothing can be deployed to such a URL.
            BackendError: the place or the backend failed.
        """
        check_target(name)
        gates = gates.checked()
        opened = open_backend(url, self._options(url), Path.cwd())
        try:
            return self._append(
                name, request, by, reason, lambda last: self._wanted(last, opened, name, by), gates
            )
        finally:
            opened.close()

    def remove(self, name: str, request: Request, *, by: str, reason: str = "") -> TargetSet:
        """Remove a target; what is at its place stays, and so does its history.

        Raises:
            TargetNotFound: there never was one of that name.
        """
        check_target(name)

        def gone(last: Target | None) -> None:
            if last is None:
                raise TargetNotFound(
                    f"there is no target {name} at {self._backend.url}",
                    hint="`modeldrop target list` lists them",
                )

        return self._append(name, request, by, reason, gone, Gates(keep=KEEP))

    def open(self, target: Target) -> Backend:
        """Return the place of a target, which bears the target's mark; it stays open until `close`.

        Raises:
            TargetNotFound: the target was removed.
            BackendError: the place isn't there.
            Conflict: it is another one's.
        """
        if target.url is None:
            message = f"the target {target.target} was removed: {told(target)}"
            raise TargetNotFound(message, hint="`modeldrop target list` lists those that there are")
        return self.open_url(target.target, target.url)

    def open_url(self, name: str, url: str) -> Backend:
        """Return the place of a target that is or was at a URL; as `open`."""
        with self._opening:
            opened = self._opened.get(url)
            if opened is None:
                opened = self._opened[url] = open_backend(url, self._options(url), None)
        self._check_mark(opened, name)
        return opened

    def close(self) -> None:
        """Let go of the connections to places."""
        while self._opened:
            self._opened.popitem()[1].close()

    def parse(self, data: bytes, name: str, number: int) -> Target:
        """Return the record that these bytes hold, checked to be the one that was asked for."""
        where = f"{self._backend.url}/{layout.numbered(layout.target(name), number)}"
        found = Target.from_bytes(data, where)
        if (found.target, found.change) != (name, number):
            message = f"{where} says that it is {found.reference}"
            raise IntegrityError(message, hint="`modeldrop verify` checks the whole store")
        return found

    def _append(
        self,
        name: str,
        request: Request,
        by: str,
        reason: str,
        url_of: Callable[[Target | None], str | None],
        gates: Gates,
    ) -> TargetSet:
        """Append what a target is to be, unless it is so; `url_of` refuses what can't be."""
        check_text("reason", reason)
        check_text("name of who sets it", by)
        lock = self._home.paths.counter_lock(f"+{name}")
        with locks.hold(lock, what=f"the target {name}"):
            patiently(lambda: check_backend(self._home, self._backend))
            sequence = self._sequence(name)
            meaning = _Meaning(self._home, self, name)
            ledger = Ledger(sequence, Intents(self._home.paths.intents), self._journal, meaning)
            ledger.settle()
            last = self._read(name, sequence.last())
            at = now()
            while True:
                url = url_of(last)
                if last is not None and _is(last, url, gates):
                    sequence.confirm(last.change)
                    return TargetSet(last, created=False)

                def make(number: int, url: str | None = url) -> bytes:
                    return Target(
                        owner=request.id,
                        target=name,
                        change=number,
                        url=url,
                        production=gates.production,
                        require_alias=gates.require_alias,
                        require_verified=gates.require_verified,
                        confirm=gates.confirm,
                        keep=gates.keep,
                        reason=reason,
                        home=self._home.id,
                        host=self._home.host,
                        changed_by=by,
                        changed_at=at,
                    ).to_bytes()

                first = (last.change if last else 0) + 1
                # Whoever was quicker is read and judged before the next number is tried.
                appended = ledger.append(
                    make, request, owner=request.id, at=first, accept=lambda *_: True
                )
                last = self.parse(appended.data, name, appended.number)
                if last.owner == request.id:
                    return TargetSet(last, created=True)

    def _wanted(self, last: Target | None, opened: Backend, name: str, by: str) -> str:
        """Return the URL of a target that is to be set, once its place is ready and marked."""
        if last is not None and last.url not in (None, opened.url):
            raise Conflict(
                f"the target {name} is at {last.url}: {told(last)}",
                hint=f"`modeldrop target rm {name}` first; what is live there stays where it is",
            )
        if last is None or last.url is None:
            self._refuse_alias(name)
        self._mark(opened, name, by)
        return opened.url

    def _refuse_alias(self, name: str) -> None:
        def on(experiment: str) -> bool:
            if not self._aliases.sequence(experiment, name).exists(1):
                return False
            return self._aliases.newest(experiment, name).version is not None

        experiments = sorted(self._versions.experiments())
        with ThreadPoolExecutor(self._backend.capabilities.connections) as pool:
            bearing = [
                each
                for each, is_on in zip(experiments, pool.map(on, experiments), strict=True)
                if is_on
            ]
        if bearing:
            raise Conflict(
                f"{bearing[0]}@{name} is an alias, and can't be a target as well",
                hint=f"name the target otherwise, or `modeldrop alias rm {bearing[0]}@{name}`",
                detail={"aliases": [f"{each}@{name}" for each in bearing]},
            )

    def _mark(self, place: Backend, name: str, by: str) -> None:
        """Make a place ready, and have it say whose it is."""
        place.prepare()
        can = place.capabilities
        if not (can.leads or can.replaces):
            raise ConfigError(
                f"nothing can be deployed to {place.url}: what is live there can't be switched in "
                "one step",
                hint="give a folder of this machine, or a URL that begins with s3://, az:// or gs://",
            )
        mark = TargetMarker(self._home.repository, name, by, now())
        if create_if_absent(place, layout.TARGET_MARKER, mark.to_bytes()):
            return
        self._check_mark(place, name)

    def _check_mark(self, place: Backend, name: str) -> None:
        where = f"{place.url}/{layout.TARGET_MARKER}"
        data = patiently(lambda: place.read(layout.TARGET_MARKER))
        if data is None:
            raise BucketNotFound(
                f"{place.url} isn't the place of the target {name}: {layout.TARGET_MARKER} isn't "
                "there",
                hint="mount the disk that it is on, or deploy from the machine that has it; "
                f"`modeldrop target add {name} …` makes an emptied place one again",
                detail={"target": name, "place": place.url},
            )
        found = TargetMarker.from_bytes(data, where)
        if (found.repository, found.target) != (self._home.repository, name):
            whose = f"the target {found.target}"
            if found.repository != self._home.repository:
                whose += f" of the repository {found.repository}"
            raise Conflict(
                f"{place.url} is the place of {whose}",
                hint=f"give another URL; if that target is gone for good, remove {where}",
                detail={"target": found.target, "repository": found.repository},
            )

    def _options(self, url: str) -> dict[str, object]:
        """Return what a place's driver is told: what the backend's is, if both are of one kind."""
        mine = self._home.backend_url.partition("://")
        theirs = url.partition("://")
        is_same = bool(mine[1] and theirs[1]) and mine[0].lower() == theirs[0].lower()
        return dict(self._home.config.backend.options) if is_same else {}

    def _read(self, name: str, number: int) -> Target | None:
        data = self._sequence(name).read(number)
        return None if data is None else self.parse(data, name, number)

    def _sequence(self, name: str) -> Sequence:
        return Sequence(self._backend, layout.target(name))


def create_if_absent(place: Backend, key: str, data: bytes) -> bool:
    """Create a small record at a place; False if there is one by now, whoever made it."""
    with contextlib.suppress(BackendError):
        return place.create(key, data)
    return False


def bears(backend: Backend, name: str) -> Target | None:
    """Return the target that bears a name now, or None."""
    sequence = Sequence(backend, layout.target(name))
    data = sequence.read(sequence.last())
    if data is None:
        return None
    found = Target.from_bytes(data, f"{backend.url}/{layout.target(name)}")
    return None if found.url is None else found


def told(target: Target) -> str:
    """Return who set or removed a target, when and why, for people."""
    what = "removed" if target.url is None else "set"
    why = f" ({target.reason})" if target.reason else ""
    return f"{target.changed_by}@{target.host} {what} it at {target.changed_at}{why}"


def _is(target: Target, url: str | None, gates: Gates) -> bool:
    if url is None or target.url is None:
        return url == target.url
    mine = (
        target.production,
        target.require_alias,
        target.require_verified,
        target.confirm,
        target.keep,
    )
    wanted = (
        gates.production,
        gates.require_alias,
        gates.require_verified,
        gates.confirm,
        gates.keep,
    )
    return (target.url, *mine) == (url, *wanted)


class _Meaning:
    """What a target's records mean to the journal."""

    def __init__(self, home: Home, targets: Targets, name: str) -> None:
        self._home = home
        self._targets = targets
        self._name = name

    def entry(self, number: int, data: bytes, request: Request) -> NewEntry | None:
        return entry_of(self._targets.parse(data, self._name, number), self._home.id, request)

    def settled(self, number: int, data: bytes) -> None:
        """Do nothing: nothing follows a target's records."""


def entry_of(target: Target, home: str, request: Request) -> NewEntry | None:
    """Return the entry that says that a home set a target; None if another one did."""
    if target.home != home:
        return None
    return NewEntry(
        kind=TARGET_REMOVED if target.url is None else TARGET_SET,
        about=(target.reference,),
        request=request.id,
        user=request.user,
        details={
            "target": target.target,
            "change": target.change,
            "url": target.url,
            "production": target.production,
            "require_alias": target.require_alias,
            "require_verified": target.require_verified,
            "confirm": target.confirm,
            "keep": target.keep,
            "changed_by": target.changed_by,
            "reason": target.reason,
        },
    )
