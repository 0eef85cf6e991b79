"""What the files of a drop are, and whether the home lets them in: its `[formats]` settings.

Each file is looked at by the descriptor that it is stored from, right after its bytes were read. A
file of which nothing is known costs one read of its first bytes. A look that fails fails nothing
else, and all looks at one run end within `_SECONDS`. Where something may be parked for what it is,
all files are looked at before the first byte is sent.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from modeldrop.config import FormatSettings
from modeldrop.errors import DropRefused, ModeldropError
from modeldrop.formats import ALLOW, KINDS, PARK, VERDICTS, WARN
from modeldrop.formats.description import Description
from modeldrop.formats.recognition import HEAD, look, recognise
from modeldrop.formats.source import STORING, OpenFile
from modeldrop.intake import walk
from modeldrop.intake.memory import known_as
from modeldrop.intake.observation import SeenFile
from modeldrop.names import printable
from modeldrop.records import FileFormat

_log = logging.getLogger(__name__)

_SECONDS: Final = 3.0
# A manifest is read whole by everybody who asks for a run.
_MOST_FORMATS: Final = 1000


class Inspection:
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
        self.files = files
        self._before = before
        self._settings = settings
        self._left = _SECONDS
        self._looked: dict[str, Description] = {}
        self._kept: dict[str, FileFormat] = {}
        self._known: set[str] = set()

    @property
    def parks(self) -> bool:
        """Whether a file may be parked for what it is."""
        return self._settings.parks

    def look(self, fd: int, seen: SeenFile) -> None:
        """Look at an open file, unless that was done; never raises."""
        if self._is_known(seen):
            return
        self._known.add(seen.path)
        try:
            head = os.pread(fd, HEAD, 0)
            if recognise(head, seen.path) is None:
                self._found(seen, None)
                return
            began = time.thread_time()
            limits = replace(STORING, seconds=min(STORING.seconds, max(self._left, 0.0)))
            source = OpenFile(fd, seen.path, seen.signature.size)
            found = look(source, limits, head=head)
            self._left -= time.thread_time() - began
        except (OSError, ModeldropError) as error:
            # Whoever stores the file meets the same trouble, and tells it.
            _log.debug("%s could not be looked at: %s", printable(seen.path), error)
            return
        self._found(seen, found)

    def _found(self, seen: SeenFile, found: Description | None) -> None:
        if self._before is not None:
            self._before[known_as(seen.path, seen.signature)] = found
        self._take(seen, found)

    def _take(self, seen: SeenFile, found: Description | None) -> None:
        if found is not None:
            if found.needs:
                # Which of them it misses is another question at each attempt.
                found = replace(found, warnings=[*found.warnings], needs=[*found.needs])
            self._looked[seen.path] = found

    def _is_known(self, seen: SeenFile) -> bool:
        """Return whether a file was looked at, in this attempt or, if it is the same, before."""
        if seen.path in self._known:
            return True
        key = known_as(seen.path, seen.signature) if self._before else ("", "")
        if self._before is None or key not in self._before:
            return False
        self._known.add(seen.path)
        self._take(seen, self._before[key])
        return True

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
        self._find_missing()
        parked = [
            (path, *told)
            for path in sorted(self._looked)
            if (told := self._verdict(self._looked[path]))[0] == PARK
        ]
        if not parked:
            return
        path, _, setting, why = parked[0]
        others = f" (and {len(parked) - 1} more)" if len(parked) > 1 else ""
        message = f"{printable(path)} is {why}, and [formats] {setting} parks it{others}"
        raise DropRefused(
            message,
            hint=f"put another file in its place; or set {setting} in config.toml to "
            f'"{WARN}" or "{ALLOW}", have the service read it again, and run `modeldrop retry`',
        )

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
            there = {seen.path for seen in self.files}
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


def _renamed(path: str, name: str) -> str:
    _, slash, below = path.partition("/")
    return f"{name}{slash}{below}"
