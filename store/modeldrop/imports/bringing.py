"""Bringing the bytes of one run from elsewhere, and what is said of it, as a revision here."""

from __future__ import annotations

import logging
import os
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from modeldrop import layout
from modeldrop.collection import State
from modeldrop.errors import Conflict, IntegrityError
from modeldrop.formats.source import OpenFile
from modeldrop.imports.describing import metadata_of
from modeldrop.imports.elsewhere import File, Left, Opened, RunThere
from modeldrop.imports.report import Report
from modeldrop.intake.drops import artifacts_of
from modeldrop.intake.inspection import Looks
from modeldrop.ledger import Request
from modeldrop.names import printable
from modeldrop.records import Artifact, Origin, Refused, Revision, StoredFile
from modeldrop.rooms import Rooms
from modeldrop.runs import Draft

_log = logging.getLogger(__name__)

Progress = Callable[[int], None]

# In a dry run nothing is read, so nothing is known of the bytes but how many there are.
_UNREAD: Final = "0" * 64


class Bringing:
    """What brings runs to a backend."""

    def __init__(self, rooms: Rooms, report: Report, moved: Progress, *, dry_run: bool) -> None:
        """Count in `report` what is brought; `moved` is told of bytes."""
        self._rooms = rooms
        self._runs = rooms.runs_at_backend
        self._report = report
        self._moved = moved
        self._dry_run = dry_run

    def run(
        self, there: RunThere, experiment: str | None, origin: Callable[[str], Origin]
    ) -> Revision:
        """Bring a run; return the revision that has all of it.

        Raises:
            Conflict: the run is here with other content, and not from there.
            SourceChanged: a file of it changed while it was read.
            IntegrityError: a file doesn't have the digest that it has to have.
            BackendError: the backend failed.
            OSError: a file can't be read.
        """
        content = there.content()
        last = self._runs.latest(there.run)
        # What is let go, or is to be, is stored anew.
        state = self._runs.collections.state(there.run) if last else State()
        gone = state.leaves(last) if last else frozenset()
        files = _without(content.refused, content.files)
        looks = Looks(self._rooms.home.config.formats, [each.path for each in files])
        refused = (*content.refused, *self._parked(looks, files))
        files = _without(refused, files)
        for each in refused:
            self._report.left.append(Left("file", f"{there.name}/{each.path}", each.reason))
        metadata = metadata_of(there.described(), lambda what: self._lost(there.name, what))
        if self._dry_run:
            return self._planned(there, files, refused, last, origin(there.name))
        found = self._found(files, last, state)
        if found is not None:
            self._report.count("runs", created=False)
            return found
        upload = layout.new_upload_id()
        stored, lost = self._send_all(there.run, files, looks, last, upload, gone)
        artifacts = artifacts_of(stored)
        self._refuse_another(there, artifacts, last, origin(there.name))
        draft = Draft(
            there.run,
            upload,
            experiment,
            artifacts,
            refused,
            lost,
            metadata=metadata,
            formats=tuple(each for each in looks.formats() if each.path in stored),
            origin=origin(there.name),
            by=there.by or origin(there.name).imported_by,
            at=there.at,
        )
        committed = self._runs.commit(draft, Request(str(uuid.uuid4()), self._rooms.home.user))
        looks.tell(there.run)
        _log.debug("step: run imported")
        self._report.count("runs", created=committed.created)
        return committed.revision

    def _parked(self, looks: Looks, files: list[File]) -> tuple[Refused, ...]:
        """Return what the home doesn't let in, found before the first byte is sent.

        Raises:
            OSError: a file can't be read.
        """
        if not looks.parks:
            return ()
        for file in files:
            with file.open() as opened:
                _look(looks, opened, file)
        return tuple(Refused(printable(each.path), f"it {each.reason}") for each in looks.parked())

    def _found(self, files: list[File], last: Revision | None, state: State) -> Revision | None:
        """Return a revision that has all of this already, where its digests are told beforehand."""
        if last is None or not files or not all(each.sha256 for each in files):
            return None
        wanted = {each.path: each.sha256 for each in files}
        for number in range(last.revision, 0, -1):
            revision = self._runs.revision(last.run, number)
            there, gone = revision.files(), state.leaves(revision)
            if wanted.items() <= {path: each.sha256 for path, each in there.items()}.items():
                whole = all(
                    there[path].key not in gone and self._rooms.transfer.holds(there[path])
                    for path in wanted
                )
                return revision if whole else None
        return None

    def _lost(self, name: str, what: str) -> None:
        self._report.left.append(Left("metadata", printable(name), printable(what)))

    def _refuse_another(
        self,
        there: RunThere,
        artifacts: tuple[Artifact, ...],
        last: Revision | None,
        origin: Origin,
    ) -> None:
        """Return unless the run is here with other content, and not from there.

        Raises:
            Conflict: it is.
        """
        if last is None or (last.origin is not None and last.origin.source == origin.source):
            return
        content = last.content()
        other = [each for each in artifacts if content.get(each.artifact) != each.sha256]
        if other:
            names = ", ".join(printable(each.artifact) for each in other)
            raise Conflict(
                f"run {there.run} is here already, committed by {last.committed_by} at "
                f"{last.committed_at}, and has another {names}",
                hint="the run here stays as it is",
            )

    def _planned(
        self,
        there: RunThere,
        files: list[File],
        refused: tuple[Refused, ...],
        last: Revision | None,
        origin: Origin,
    ) -> Revision:
        """Return what the run would be, in a dry run: the last revision if that looks the same."""
        sizes = {each.path: each.size for each in files}
        before = last.files() if last else {}
        if last is not None and all(
            path in before and before[path].size == size for path, size in sizes.items()
        ):
            self._report.count("runs", created=False)
            return last
        unread = {path: StoredFile(path, _UNREAD, size, "") for path, size in sizes.items()}
        artifacts = artifacts_of(unread)
        self._refuse_another(there, artifacts, last, origin)
        self._report.count("runs", created=True)
        return Revision(
            owner="",
            run=there.run,
            revision=(last.revision if last else 0) + 1,
            experiment=None,
            upload="",
            home="",
            host="",
            committed_by="",
            committed_at="",
            artifacts=artifacts,
            refused=refused,
        )

    def _send_all(
        self,
        run: str,
        files: list[File],
        looks: Looks,
        last: Revision | None,
        upload: str,
        gone: frozenset[str],
    ) -> tuple[dict[str, StoredFile], frozenset[str]]:
        """Have all files at the backend; return where, and which keys of `last` lost theirs."""
        before = last.files() if last else {}
        known = {
            (each.sha256, each.size): each.key for each in before.values() if each.key not in gone
        }
        lost: set[str] = set()

        def send(file: File) -> StoredFile:
            stored = self._send(run, file, looks, upload, known)
            old = before.get(file.path)
            same = old is not None and (old.sha256, old.size) == (stored.sha256, stored.size)
            if same and old is not None and old.key != stored.key:
                lost.add(old.key)
            return stored

        if len(files) < 2:  # noqa: PLR2004 - one needs no threads
            return {each.path: send(each) for each in files}, frozenset(lost)
        connections = self._rooms.backend.capabilities.connections
        with ThreadPoolExecutor(connections, thread_name_prefix="import") as pool:
            tasks = {each.path: pool.submit(send, each) for each in files}
            try:
                return {path: task.result() for path, task in tasks.items()}, frozenset(lost)
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _send(
        self,
        run: str,
        file: File,
        looks: Looks,
        upload: str,
        known: Mapping[tuple[str, int], str],
    ) -> StoredFile:
        transfer = self._rooms.transfer
        with file.open() as opened:
            _look(looks, opened, file)
            if any(size == file.size for _, size in known):
                # What is there already isn't sent again; only equal sizes can be equal bytes.
                digest = transfer.digest(opened.fd, file.size, opened.unchanged, start=opened.start)
                key = known.get((digest.sha256, digest.size))
                there = key and StoredFile(file.path, digest.sha256, digest.size, key)
                if there and transfer.holds(there):
                    _check(file, digest.sha256)
                    self._moved(digest.size)
                    return there
                if opened.start is None:
                    os.lseek(opened.fd, 0, os.SEEK_SET)
            key = layout.bytes_key(run, upload, file.path)
            sent = transfer.send(
                opened.fd, key, file.size, opened.unchanged, self._moved, start=opened.start
            )
            _check(file, sent.sha256)
            return StoredFile(file.path, sent.sha256, sent.size, key)


def _without(refused: Iterable[Refused], files: Iterable[File]) -> list[File]:
    """Return the files of those artifacts of which nothing is refused."""
    parts = {each.path.partition("/")[0] for each in refused}
    return [each for each in files if printable(each.path.partition("/")[0]) not in parts]


def _look(looks: Looks, opened: Opened, file: File) -> None:
    looks.look_at(OpenFile(opened.fd, file.path, file.size, opened.start or 0))


def _check(file: File, sha256: str) -> None:
    if file.sha256 is not None and file.sha256 != sha256:
        raise IntegrityError(
            f"{printable(file.path)} doesn't have the digest that its manifest says",
            hint="copy the bundle again, or export it anew",
        )
