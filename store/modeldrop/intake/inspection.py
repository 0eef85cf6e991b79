"""What the files of a run are, and whether the home lets them in: its `[formats]` settings.

Each file is looked at by the descriptor that it is stored from, right after its bytes were read. A
file of which nothing is known costs one read of its first bytes. A look that fails fails nothing
else, and all looks at one run end within `_SECONDS`. Where something may be parked for what it is,
all files are looked at before the first byte is sent.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from modeldrop.errors import DropRefused, ModeldropError
from modeldrop.formats import ALLOW, KINDS, PARK, VERDICTS, WARN
from modeldrop.formats.description import Description
from modeldrop.formats.recognition import HEAD, look, recognise
from modeldrop.formats.source import STORING, OpenFile, RandomAccess
from modeldrop.intake import walk
from modeldrop.intake.memory import known_as
from modeldrop.intake.observation import SeenFile
from modeldrop.names import printable
from modeldrop.records import FileFormat
from modeldrop.settings import FormatSettings
from modeldrop.structs import Frozen, replace

_log = logging.getLogger(__name__)

_SECONDS: Final = 3.0
# A manifest is read whole by everybody who asks for a run.
_MOST_FORMATS: Final = 1000


class Parked(Frozen):
    """A file that a home doesn't let in."""

    path: str
    what: str
    setting: str
    """What parks it, as it is called in `[formats]`."""

    @property
    def reason(self) -> str:
        """Why it isn't let in, for people, after its path."""
        return f"is {self.what}, and [formats] {self.setting} parks it"


class Looks:
    """What is known of the files of one run. For several threads, each with files of its own."""

    def __init__(self, settings: FormatSettings, paths: Collection[str]) -> None:
        """Know nothing yet of the files at these paths, which are all that is stored of the run."""
        self._paths = paths
        self._settings = settings
        self._left = _SECONDS
        self._looked: dict[str, Description] = {}
        self._kept: dict[str, FileFormat] = {}
        self._known: set[str] = set()

    @property
    def parks(self) -> bool:
        """Whether a file may be parked for what it is."""
        return self._settings.parks

    def look_at(self, source: RandomAccess) -> None:
        """Look at a file by its bytes, unless that was done; never raises."""
        if source.name not in self._known:
            self._known.add(source.name)
            self._looked_at(source)

    def parked(self) -> list[Parked]:
        """Return the files that the home doesn't let in, by path."""
        self._find_missing()
        return [
            Parked(path, why, setting)
            for path in sorted(self._looked)
            for verdict, setting, why in (self._verdict(self._looked[path]),)
            if verdict == PARK
        ]

    def tell(self, run: str) -> None:
        """Say in the log what the settings want to be warned of, once the run is stored."""
        for path in sorted(self._looked):
            verdict, _, why = self._verdict(self._looked[path])
            if verdict == WARN:
                said = {"run": run, "file": printable(path)}
                _log.warning("run %s: %s is %s", run, printable(path), why, extra=said)

    def formats(self, called: str | None = None) -> tuple[FileFormat, ...]:
        """Return what is known of the files, in the order of their paths.

        `called` is another name for the only artifact. Of very many files, those that run code
        come first.
        """
        if not self._looked and not self._kept:
            return ()
        self._find_missing()
        found = [
            *self._kept.values(),
            *(FileFormat.of(path, each) for path, each in self._looked.items()),
        ]
        if len(found) > _MOST_FORMATS:
            found.sort(key=lambda each: (not each.runs_code, each.path))
            del found[_MOST_FORMATS:]
        if called is not None:
            found = [replace(each, path=_renamed(each.path, called)) for each in found]
        return tuple(sorted(found, key=lambda each: each.path.encode("utf-8")))

    def _find_missing(self) -> None:
        """Hold against the other files of the run what each file needs."""
        if any(each.needs for each in self._looked.values()):
            there = frozenset(self._paths)
            for path, each in self._looked.items():
                each.hold_against(path, there.__contains__)

    def _verdict(self, found: Description) -> tuple[str, str, str]:
        """Return what becomes of a file, by which setting, and what it is in words."""
        said = self._settings
        what = KINDS[found.kind]
        reasons = [(ALLOW, "", "")]
        if found.kind in said.kinds:
            reasons.append((said.kinds[found.kind], f"kinds.{found.kind}", what))
        elif found.runs_code:
            why = f"{what} that runs code when it is loaded"
            reasons.append((said.runs_code, "runs_code", why))
        if found.damaged:
            why = f"{what} that is damaged: {found.warnings[-1] if found.warnings else 'cut off'}"
            reasons.append((said.damaged, "damaged", why))
        return max(reasons, key=lambda each: VERDICTS.index(each[0]))

    def _looked_at(self, source: RandomAccess) -> tuple[Description | None] | None:
        """Look at a file, and return what was found; None if it can't be read."""
        try:
            head = source.read(0, HEAD)
            found = None
            if recognise(head, source.name) is not None:
                began = time.thread_time()
                limits = replace(STORING, seconds=min(STORING.seconds, max(self._left, 0.0)))
                found = look(source, limits, head=head)
                self._left -= time.thread_time() - began
        except (OSError, ModeldropError) as error:
            # Whoever stores the file meets the same trouble, and tells it.
            _log.debug("%s could not be looked at: %s", printable(source.name), error)
            return None
        self._take(source.name, found)
        return (found,)

    def _take(self, path: str, found: Description | None) -> None:
        if found is not None:
            if found.needs:
                # Which of them it misses is another question at each attempt.
                found = replace(found, warnings=[*found.warnings], needs=[*found.needs])
            self._looked[path] = found


class Inspection(Looks):
    """What is known of the files of one drop. For several threads, each with files of its own."""

    def __init__(
        self,
        settings: FormatSettings,
        files: Sequence[SeenFile],
        before: dict[tuple[str, str], Description | None] | None = None,
    ) -> None:
        """Know nothing yet of these files, which are all that is stored of the drop.

        `before` is what earlier attempts have found, and gets what this one does.
        """
        super().__init__(settings, [each.path for each in files])
        self.files = files
        self._before = before

    def look(self, fd: int, seen: SeenFile) -> None:
        """Look at an open file, unless that was done; never raises."""
        if self._is_known(seen):
            return
        self._known.add(seen.path)
        looked = self._looked_at(OpenFile(fd, seen.path, seen.signature.size))
        if looked is not None and self._before is not None:
            self._before[known_as(seen.path, seen.signature)] = looked[0]

    def look_into(self, staging: Path, name: str, seen: SeenFile) -> None:
        """Look at a file of a run folder that isn't open, unless that was done.

        Raises:
            SourceChanged: it isn't what was seen.
            OSError: it can't be opened.
        """
        if self._is_known(seen):
            return
        fd = walk.open_file(staging, name, seen.path, seen.signature)
        try:
            self.look(fd, seen)
        finally:
            os.close(fd)

    def keep(self, seen: SeenFile, known: FileFormat | None) -> None:
        """Take over what was known of a file that is stored already; None is that it is nothing."""
        if seen.path not in self._known:
            self._known.add(seen.path)
            if known is not None:
                self._kept[seen.path] = known

    def check(self) -> None:
        """Return if the home lets all of it in.

        Raises:
            DropRefused: it doesn't; the message says for which file and by which setting.
        """
        parked = self.parked()
        if not parked:
            return
        first = parked[0]
        others = f" (and {len(parked) - 1} more)" if len(parked) > 1 else ""
        raise DropRefused(
            f"{printable(first.path)} {first.reason}{others}",
            hint=f"put another file in its place; or set {first.setting} in config.toml to "
            f'"{WARN}" or "{ALLOW}", have the service read it again, and run `modeldrop retry`',
        )

    def _is_known(self, seen: SeenFile) -> bool:
        """Return whether a file was looked at, in this attempt or, if it is the same, before."""
        if seen.path in self._known:
            return True
        key = known_as(seen.path, seen.signature) if self._before else ("", "")
        if self._before is None or key not in self._before:
            return False
        self._known.add(seen.path)
        self._take(seen.path, self._before[key])
        return True


def _renamed(path: str, name: str) -> str:
    _, slash, below = path.partition("/")
    return f"{name}{slash}{below}"
