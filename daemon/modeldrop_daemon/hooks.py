"""Hooks: commands of the user's, run when a revision is committed, a run parked, a version given.

Purpose: to tell others, without anything that they do or fail to do holding up the service. One
thread runs one hook at a time; docs/hooks.md is what users are promised.

What was committed, registered and deployed is read from the home's journal, since other processes
register and deploy.
How far that has come is in `service/hooks.json`, put down durably after each hook that has ended:
so over any end of the service none is missed, each is run at least once, in the journal's order,
and what was running at the end is run again. A run that is parked is in no journal: it is told of
from memory, once, and `modeldrop status` shows it for as long as it is so.

What a hook says is kept to its last few KiB. One that takes too long is ended with all of its
process group. Whatever its outcome it is not run again: what keeps failing would hold up all that
comes after it, for ever.

Calling sequence: `begin` once the journal is the home's own, before anything is appended to it;
`set` when the settings have changed; `stop` to begin nothing more; `close` waits for the thread.
`take` may be called from any thread, and waits for nothing.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import ClassVar, Final

from modeldrop.errors import IntegrityError, ModeldropError
from modeldrop.files import remove_durable, write_durable
from modeldrop.form import Record
from modeldrop.home import Home
from modeldrop.intake import RunStatus
from modeldrop.journal import Entry, Journal
from modeldrop.names import printable
from modeldrop.records import Head
from modeldrop.redaction import is_secret_variable
from modeldrop.settings import HookSettings
from modeldrop_daemon.command import Ended, run_command

_log = logging.getLogger(__name__)

COMMITTED: Final = "committed"
PARKED: Final = "parked"
REGISTERED: Final = "registered"
DEPLOYED: Final = "deployed"
EVENTS: Final = (COMMITTED, PARKED, REGISTERED, DEPLOYED)

# The event that an entry of the journal is, by its kind.
_TOLD: Final[Mapping[str, str]] = {
    COMMITTED: COMMITTED,
    REGISTERED: REGISTERED,
    DEPLOYED: DEPLOYED,
    "rolled-back": DEPLOYED,
}

# How often it is looked whether another process has appended to the journal: one stat().
_LOOK: Final = 1.0
# How many runs that were parked wait for their hook at most; `modeldrop status` has them all.
_MOST_PARKED: Final = 1000
# How many entries may be passed over, none of them for a hook, before the place is put down; it is
# also put down when nothing happens.
_MOST_PASSED: Final = 1000
# How soon a journal that can't be read is tried again: to say where it is damaged takes long.
_REST: Final = 30.0
# How long a hook that runs may go on when the service ends, and how long its end is waited for.
_STOP_TIME: Final = 3.0
_END_TIME: Final = 2.0

_BEGINNING: Final = Head(seq=0, start=0, offset=0, sha256="0" * 64)


class _Place(Record):
    """`service/hooks.json`: the last entry of this home's journal whose hook has ended."""

    kind: ClassVar[str] = "hooks"
    home: str
    seq: int
    start: int
    offset: int
    line: str


class Hooks:
    """The hooks of one service."""

    def __init__(self, home: Home, secrets: Iterable[str] = ()) -> None:
        """Run none yet; `secrets` are the names of variables that none of them gets."""
        self._home = home
        self._path = home.paths.hooks()
        self._withheld = _NOT_FOR_HOOKS.union(secrets)
        self._settings = HookSettings()
        self._journal: Journal | None = None
        self._place = _BEGINNING
        self._parked: deque[RunStatus] = deque()
        self._passed_over = 0
        self._seen: tuple[int, int] | None = None
        self._trouble = ""
        self._bell = threading.Event()
        self._stopping = threading.Event()
        self._ended_by = float("inf")
        self._thread: threading.Thread | None = None
        self._ran: Counter[str] = Counter(dict.fromkeys(EVENTS, 0))
        self._failed: Counter[str] = Counter(dict.fromkeys(EVENTS, 0))

    # From any thread

    def take(self, status: RunStatus) -> None:
        """Take note of what became of a run."""
        if status.state == PARKED and self._settings.parked:
            if len(self._parked) >= _MOST_PARKED:
                _log.warning(
                    "no hook is run for run %s, which is parked: %d others wait for theirs",
                    status.run,
                    _MOST_PARKED,
                    extra={"run": status.run, "event": PARKED},
                )
                return
            self._parked.append(status)
        self._bell.set()

    @property
    def ran(self) -> Mapping[str, int]:
        """How many were run since the start, by event."""
        return self._ran.copy()

    @property
    def failed(self) -> Mapping[str, int]:
        """How many of them failed, by event."""
        return self._failed.copy()

    def stop(self, *, now: bool = False) -> None:
        """Begin none any more; give the one that runs a moment, or none."""
        self._ended_by = time.monotonic() + (0.0 if now else _STOP_TIME)
        self._stopping.set()
        self._bell.set()

    # From the thread of the loop

    def begin(self, journal: Journal, settings: HookSettings) -> None:
        """Follow this journal, from where the last service came to; again is no harm."""
        if self._journal is None:
            self._journal = journal
            self.set(settings)

    def set(self, settings: HookSettings) -> None:
        """Run these from now on. The first one begins with what happens next, not with the past."""
        self._settings = settings
        if self._journal is None or self._stopping.is_set():
            return
        if not any(getattr(settings, event) for event in EVENTS):
            self._forget()
        elif self._thread is None:
            self._thread = threading.Thread(
                target=self._follow, args=(self._journal,), name="hooks", daemon=True
            )
            self._place = self._recall(self._journal)
            self._thread.start()

    def close(self) -> None:
        """Wait until the hook that runs has ended; it was told to by `stop`."""
        if not self._stopping.is_set():
            self.stop()
        if self._thread is not None:
            # What the kernel doesn't let end is not waited for.
            self._thread.join(max(self._ended_by - time.monotonic(), 0.0) + _END_TIME)

    def _forget(self) -> None:
        """Leave no place behind from which hooks that come back would tell of the past."""
        if self._thread is None:
            try:
                remove_durable(self._path)
            except OSError as error:
                _log.warning("%s can't be removed: %s", printable(str(self._path)), error)

    # From its own thread, but for the first call

    def _recall(self, journal: Journal) -> Head:
        """Return where to go on; the journal's end if there is no such place.

        Raises nothing: what is wrong with the journal shows when it is followed.
        """
        try:
            found = _Place.from_bytes(self._path.read_bytes(), str(self._path))
            if found.home == self._home.id:
                return Head(found.seq, found.start, found.offset, found.line)
            _log.warning("this home is a copy: its hooks begin with what happens from now on")
        except FileNotFoundError:
            pass
        except (OSError, ModeldropError) as error:
            _log.error("hooks begin with what happens from now on: %s", error)
        try:
            place = journal.head() or _BEGINNING
        except ModeldropError as error:
            self._say(error)
            return _BEGINNING
        self._keep(place)
        return place

    def _keep(self, place: Head) -> None:
        self._place = place
        self._passed_over = 0
        record = _Place(self._home.id, place.seq, place.start, place.offset, place.sha256)
        try:
            write_durable(self._path, record.to_bytes())
        except OSError as error:
            # It costs a hook that is run twice, after a restart.
            self._say(error)
        else:
            self._trouble = ""

    def _follow(self, journal: Journal) -> None:
        while not self._stopping.is_set():
            self._bell.clear()
            try:
                self._tell_parked()
                if self._has_grown():
                    self._tell_journaled(journal)
                has_news = self._bell.wait(_LOOK)
            except (ModeldropError, OSError) as error:
                self._seen = None
                self._say(error)
                self._stopping.wait(_REST)
            else:
                if self._passed_over and (self._stopping.is_set() or not has_news):
                    self._keep(self._place)

    def _has_grown(self) -> bool:
        """Return whether HEAD may have moved since it was followed last."""
        try:
            found = self._home.paths.head.stat()
        except FileNotFoundError:
            return False
        before, self._seen = self._seen, (found.st_ino, found.st_mtime_ns)
        return before != self._seen

    def _tell_parked(self) -> None:
        while self._parked and not self._stopping.is_set():
            status = self._parked.popleft()
            if self._settings.parked:
                self._run(PARKED, self._settings.parked, _about_parked(self._home, status))

    def _tell_journaled(self, journal: Journal) -> None:
        for entry in journal.since(self._place):
            self._tell_parked()
            if self._stopping.is_set():
                return
            place = Head(entry.seq, entry.start, entry.end, entry.sha256)
            event = _event_of(entry)
            command: tuple[str, ...] = getattr(self._settings, event) if event else ()
            if not command:
                self._place = place
                self._passed_over += 1
            elif not self._run(event, command, {**_about_entry(entry), "event": event}):
                return  # the service ends, and the next one runs it again
            else:
                self._keep(place)
            if self._passed_over >= _MOST_PASSED:
                self._keep(place)

    def _run(self, event: str, command: tuple[str, ...], about: dict[str, object]) -> bool:
        """Run a hook; return False if it was ended with the service, before its time was up."""
        references = about["about"]
        shown = " ".join(references) if isinstance(references, list) else ""
        began = time.monotonic()
        timeout = self._settings.timeout
        environ = {
            **{name: value for name, value in os.environ.items() if not self._is_withheld(name)},
            "MODELDROP_HOME": str(self._home.paths.root),
            "MODELDROP_EVENT": event,
        }
        ended = run_command(
            command,
            json.dumps(about).encode("ascii") + b"\n",
            cwd=self._home.paths.root,
            environ=environ,
            until=lambda: min(began + timeout, self._ended_by),
        )
        seconds = round(time.monotonic() - began, 3)
        said = {"event": event, "seq": about["seq"], "seconds": seconds, "exit": ended.code}
        was_stopped = ended.was_ended and self._stopping.is_set() and seconds < timeout
        if was_stopped:
            _log.info("the hook for %s %s is ended with the service", event, shown, extra=said)
            return False
        self._ran[event] += 1
        if ended.output:
            _log.debug("the hook for %s %s says: %s", event, shown, ended.output, extra=said)
        if ended.code == 0 and not ended.was_ended:
            _log.debug("the hook for %s %s took %.3f s", event, shown, seconds, extra=said)
        else:
            self._failed[event] += 1
            why = _spell(ended, timeout)
            _log.warning(
                "the hook for %s %s %s, and is not run again", event, shown, why, extra=said
            )
        return True

    def _is_withheld(self, name: str) -> bool:
        return name in self._withheld or is_secret_variable(name)

    def _say(self, error: Exception) -> None:
        """Tell of what holds up the hooks, once."""
        if str(error) != self._trouble:
            self._trouble = str(error)
            hint = f" ({error.hint})" if isinstance(error, IntegrityError) and error.hint else ""
            _log.error("hooks: %s%s", error, hint)


# What is the service's own, and would let a command speak in its name.
_NOT_FOR_HOOKS: Final = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM", "INVOCATION_ID"}
)


def _event_of(entry: Entry) -> str:
    """Return what is told of an entry, as the settings name it, or nothing."""
    # An import tells of years ago, all at once.
    return "" if entry.details.get("origin") else _TOLD.get(entry.kind, "")


def _about_entry(entry: Entry) -> dict[str, object]:
    return {
        "event": entry.kind,
        "seq": entry.seq,
        "at": entry.at,
        "home": entry.home,
        "host": entry.host,
        "user": entry.user,
        "about": list(entry.about),
        "details": entry.details,
    }


def _about_parked(home: Home, status: RunStatus) -> dict[str, object]:
    return {
        "event": PARKED,
        "seq": None,
        "at": status.since,
        "home": home.id,
        "host": home.host,
        "user": home.user,
        "about": [f"run:{status.run}"],
        "details": {
            "run": status.run,
            "folder": status.folder,
            "reason": status.reason,
            "revision": status.revision,
            "size": status.size,
            "refused": [each.as_json() for each in status.refused],
        },
    }


def _spell(ended: Ended, timeout: float) -> str:
    if ended.was_ended:
        why = f"was ended after {timeout:g} s"
    elif ended.code is None:
        why = "could not be started"
    elif ended.code < 0:
        why = f"was ended by signal {-ended.code}"
    else:
        why = f"failed with exit code {ended.code}"
    return f"{why}: {ended.errors}" if ended.errors else why
