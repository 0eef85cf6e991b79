"""The cases of the fault suite: the store put back, an operation with a fault, and a judgement."""

from __future__ import annotations

import contextlib
import json
import os
import re
import resource
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from support import faultstore, forked, intercept, mounts, sabotage
from support.forked import Ended
from support.intercept import Call, Fault, Seen

# What trouble with the disk may end a command with: an error of the system, some of it failed, the
# backend failed. Never "not found", "conflict", "damaged": of that it knows nothing.
_OF_THE_DISK: Final = frozenset({0, 1, 3, 30})
_BUG: Final = re.compile(r"Traceback|this is a bug|Exception ignored|Fatal Python")
# Where calls aren't counted, a sweep ends once the operation ended well so many times.
_ENOUGH: Final = 3
_MOST: Final = 400
_THREADS: Final = 8
_PAGE: Final = 4096
# A line of strace's: the process, the call, its first argument, and the rest.
_TRACED: Final = re.compile(r"\d+ +(\w+)\(([^,]*).*")
# What Python itself would write is none of the store's.
_AS_IT_IS: Final = {"PYTHONDONTWRITEBYTECODE": "1"}
_KIB: Final = 1024


@dataclass
class Tally:
    """What came of some cases."""

    cases: Counter[str] = field(default_factory=Counter)
    """How many there were, by what the fault befell."""
    failed: Counter[str] = field(default_factory=Counter)
    """How many of them failed."""
    told: list[str] = field(default_factory=list)
    """What failed, and how."""

    def add(self, kind: str, where: str, problems: Iterable[str]) -> None:
        """Add a case with what is wrong about it."""
        found = list(problems)
        self.cases[kind] += 1
        self.failed[kind] += bool(found)
        self.told += [f"{where}: {each}" for each in found]


class Cases:
    """A store, and the cases that are tried on it."""

    def __init__(self, root: Path) -> None:
        """Make the store in an empty folder."""
        self._root = root
        self.store = faultstore.make(root)
        self.snapshot = faultstore.Snapshot(root)

    # The nth call

    def sweep(
        self, operation: str, fault: dict[str, Any], kinds: list[str], variant: str = ""
    ) -> Tally:
        """Let the fault befall the first call of these kinds, the second one, until none is left.

        `variant` names what is changed in the product first; see `sabotage`.
        """
        wanted = self._wanted(frozenset(kinds), Fault(**fault))
        tally = Tally()
        while True:
            number = tally.cases.total() + 1
            met, problems = self._nth(operation, wanted, Fault(**fault), number, variant)
            if met is None:
                tally.told += [f"without a fault: {each}" for each in problems]
                return tally
            where = f"{operation}, {number}, {met.name} {os.path.relpath(met.path, self._root)}"
            tally.add(met.kind, where, problems)

    def _wanted(self, kinds: frozenset[str], fault: Fault) -> Callable[[Call], bool]:
        # Only what is done to the store counts. Who only reads is never told that there is no room.
        below = f"{self._root}/"
        least = 2 if fault.cuts else 0
        full = fault.error == faultstore.NO_SPACE
        return lambda call: (
            call.kind in kinds
            and call.path.startswith(below)
            and call.size >= least
            and (call.creates or call.kind != "open" or not full)
        )

    def _nth(
        self,
        operation: str,
        wanted: Callable[[Call], bool],
        fault: Fault,
        number: int,
        variant: str,
    ) -> tuple[Call | None, list[str]]:
        def work() -> int:
            sabotage.change(variant)
            return faultstore.begin(self.store, operation)

        seen, ended = self._held_up(work, wanted, fault, number)
        return seen.met, [*_killed_or_well(seen, fault, ended), *self._judged(operation, ended)]

    def _held_up(
        self, work: Callable[[], int], wanted: Callable[[Call], bool], fault: Fault, number: int
    ) -> tuple[Seen, Ended]:
        self.snapshot.restore()
        mine, theirs = socket.socketpair()
        with mine, theirs:

            def listen_and_work() -> int:
                mine.close()
                intercept.listen(theirs)
                return work()

            with forked.forked(listen_and_work) as child:
                theirs.close()
                seen = intercept.supervise(child.pid, mine, wanted, fault, number)
                return seen, child.ended()

    def lacking(self) -> str:
        """Return why calls can't be held up here, if so."""
        try:
            self._held_up(lambda: 0, lambda _: False, Fault(), 0)
        except intercept.Unavailable as error:
            return str(error)
        return ""

    def crowded(self, times: int) -> int:
        """Kill a child at the call of one of its threads while others wait, so many times.

        Returns how often it was killed and nothing else came of it.
        """
        missing = str(self._root / "missing")

        def look() -> None:
            while True:
                with contextlib.suppress(FileNotFoundError):
                    os.open(missing, os.O_RDONLY)

        def work() -> int:
            threads = [threading.Thread(target=look) for _ in range(_THREADS)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            return 0

        kills, killed = Fault(kills=True), 0
        for number in range(1, times + 1):
            seen, ended = self._held_up(work, lambda call: call.path == missing, kills, number)
            killed += bool(seen.met) and ended.code == -signal.SIGKILL
        return killed

    # Limits

    def file_size(self, operation: str) -> Tally:
        """Let no file grow beyond a size, which rises until the operation ends well."""
        sizes = [0, 1, *range(100, 2000, 100), *range(2000, 16_000, 500)]
        return self._rising(operation, sizes, lambda size: _limit(resource.RLIMIT_FSIZE, size))

    def descriptors(self, operation: str) -> Tally:
        """Let few files be open at a time, until the operation ends well."""

        def before(more: int) -> None:
            _limit(resource.RLIMIT_NOFILE, max(map(int, os.listdir("/proc/self/fd"))) + more)

        return self._rising(operation, range(_MOST), before)

    def memory(self, operation: str) -> Tally:
        """Let little memory be had beyond what there is at the beginning, until it ends well."""

        def before(more: int) -> None:
            pages = int(Path("/proc/self/statm").read_text("ascii").split()[0])
            _limit(resource.RLIMIT_AS, pages * _PAGE + more)

        steps = [*range(0, 2048, 64), *range(2048, 65_536, 2048)]
        return self._rising(operation, [step * _KIB for step in steps], before)

    def _rising(
        self, operation: str, values: Sequence[int], before: Callable[[int], None]
    ) -> Tally:
        tally, well = Tally(), 0
        for value in values:
            self.snapshot.restore()

            def work(value: int = value) -> int:
                before(value)
                return faultstore.begin(self.store, operation)

            ended = forked.run(work)
            self._add(tally, operation, f"at {value}", ended)
            well = well + 1 if ended.code == 0 else 0
            if well == _ENOUGH:
                break
        return tally

    def _add(self, tally: Tally, operation: str, where: str, ended: Ended) -> None:
        problems = [*_well(ended, needs_to=False), *self._judged(operation, ended)]
        tally.add("", f"{operation}, {where}", problems)

    # A disk of its own: in a process that may mount

    def space(self, operation: str) -> Tally:
        """Fill the disk up to a page, to two pages, until the operation ends well."""
        return self._filled(operation, lambda free: mounts.leave_room(self._root, pages=free))

    def inodes(self, operation: str) -> Tally:
        """Fill the inode table up to one, to two, until the operation ends well."""
        return self._filled(operation, lambda free: mounts.leave_room(self._root, inodes=free))

    def _filled(self, operation: str, leave: Callable[[int], None]) -> Tally:
        tally, well = Tally(), 0
        for free in range(_MOST):
            self.snapshot.restore()
            leave(free)
            ended = forked.run(lambda: faultstore.begin(self.store, operation))
            mounts.leave_all(self._root)
            self._add(tally, operation, f"{free} free", ended)
            well = well + 1 if ended.code == 0 else 0
            if well == _ENOUGH:
                break
        return tally

    def read_only(self, operation: str) -> Tally:
        """Have the whole, the home, or a folder of it read-only, one after the other."""
        tally = Tally()
        home = self.store.home
        folders = [path for path in (self._root, home, *home.iterdir()) if path.is_dir()]
        folders += [path for path in self._root.iterdir() if path.is_dir() and path != home]
        for folder in sorted(folders):
            self.snapshot.restore()
            with mounts.read_only(folder):
                ended = forked.run(lambda: faultstore.begin(self.store, operation))
            self._add(tally, operation, os.path.relpath(folder, self._root), ended)
        return tally

    # A process of its own: with another clock, or followed by strace

    def clock(self, operation: str, env: dict[str, str]) -> Tally:
        """Do an operation by another clock, and judge by ours; and the other way round."""
        tally = Tally()
        self.snapshot.restore()
        ended = forked.run(lambda: self._anew(env, operation))
        tally.add("", f"{operation}, then back", self._whole(operation, ended))
        self.snapshot.restore()
        ended = forked.run(lambda: faultstore.begin(self.store, operation))
        problems = self._whole(operation, ended, env)
        tally.add("", f"{operation}, then forth", problems)
        return tally

    def _whole(self, operation: str, ended: Ended, env: dict[str, str] | None = None) -> list[str]:
        return [*_well(ended, needs_to=True), *self._judged(operation, ended, env)]

    def counted(self, operation: str) -> Tally:
        """Count the calls to the store of a process of its own that does an operation."""
        below = f"{self._root}/"
        seen, ended = self._held_up(
            lambda: self._anew(_AS_IT_IS, operation),
            lambda call: call.path.startswith(below),
            Fault(),
            0,
        )
        return Tally(Counter(call.name for call in seen.calls), told=[*_well(ended, needs_to=True)])

    def followed(self, operation: str, strace: list[str]) -> Tally:
        """Do the same by strace."""
        trace = self._root.with_name("trace")
        calls = ",".join(f"?{name}" for names in intercept.KINDS.values() for name in names)
        follow = [*strace, "-f", "-qq", "-y", "-e", f"trace={calls}", "-o", str(trace)]
        self.snapshot.restore()
        ended = forked.run(lambda: self._anew(_AS_IT_IS, operation, follow))
        told = map(_TRACED.match, trace.read_text("utf-8", "replace").splitlines())
        # What is written elsewhere may speak of the store.
        names = Counter(
            found[1]
            for found in told
            if found and f"{self._root}/" in (found[2] if "write" in found[1] else found[0])
        )
        return Tally(names, told=[*_well(ended, needs_to=True)])

    def meddled(self, operation: str, strace: list[str], inject: str) -> Tally:
        """Have strace meddle with a call of a process that does an operation."""
        tally = Tally()
        self.snapshot.restore()
        meddle = [*strace, "-f", "-qq", "-e", f"inject={inject}", "-o", os.devnull]
        ended = forked.run(lambda: self._anew(_AS_IT_IS, operation, meddle))
        killed = ended.code == -signal.SIGKILL
        problems = [] if killed else [*_well(ended, needs_to=False)]
        tally.add("", f"{operation}, {inject}", [*problems, *self._judged(operation, ended)])
        return tally

    def _anew(
        self,
        env: dict[str, str],
        operation: str,
        before: Sequence[str] = (),
        *,
        judges: bool = False,
    ) -> NoReturn:
        what = "judge" if judges else "begin"
        store = json.dumps({**asdict(self.store), "root": str(self._root)})
        command = [*before, sys.executable, "-m", "support.faultstore", what, store, operation]
        os.execvpe(command[0], command, {**os.environ, **env})  # noqa: S606 - it has no shell

    # What is left

    def _judged(self, operation: str, ended: Ended, env: dict[str, str] | None = None) -> list[str]:
        """Return which promises are broken after an operation that ended so."""
        acknowledged, said = ended.code == 0, ended.out

        def judge() -> int:
            if env is not None:
                return self._anew(env, operation, judges=True)
            problems = faultstore.judge(self.store, operation, acknowledged=acknowledged, said=said)
            print(json.dumps(list(problems)))
            return 0

        judged = forked.run(judge)
        if judged.code:
            return [f"after it, a command can't go on: {judged.last_words}"]
        problems: list[str] = json.loads(judged.out.splitlines()[-1])
        if problems:
            problems += [f"it said: {ended.code} {ended.last_words}", f"then: {judged.last_words}"]
        return problems


def _limit(what: int, value: int) -> None:
    resource.setrlimit(what, (value, resource.getrlimit(what)[1]))


def _killed_or_well(seen: Seen, fault: Fault, ended: Ended) -> Iterator[str]:
    if seen.met and fault.kills:
        if ended.code != -signal.SIGKILL:
            yield f"killed, it ended with {ended.code}"
        return
    yield from _well(ended, needs_to=not seen.met or not fault.error)


def _well(ended: Ended, *, needs_to: bool) -> Iterator[str]:
    """Yield what is wrong with how a program ended: it has to say what and why, and be right."""
    if _BUG.search(ended.err):
        yield f"it shows a bug: {ended.last_words}"
    if ended.code not in _OF_THE_DISK or (needs_to and ended.code):
        yield f"it ended with {ended.code}: {ended.last_words}"
    elif ended.code and "Error: " not in ended.err:
        yield f"it ended with {ended.code} and didn't say why: {ended.last_words}"
