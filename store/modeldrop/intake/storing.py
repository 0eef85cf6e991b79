"""Storing what was observed: the bytes, checked, and then the revision.

What is committed is exactly one observation. Every file is opened with the signature that was
seen, compared again while it is read and after; at the end the whole run is observed once more.
Any difference ends the attempt with nothing committed; bytes that were sent by then are under an
upload id that no manifest names. The next attempt of the same process takes up those that are
still what was seen, so that neither a network that breaks often nor a file that changes often
makes a run's other files be sent again and again.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from modeldrop import layout
from modeldrop.asked import asked
from modeldrop.choosing import choose_artifact
from modeldrop.errors import DropRefused, InvalidName, RunNotFound
from modeldrop.intake import together, walk
from modeldrop.intake.attempts import BegunUpload, can_be_gone_on_with
from modeldrop.intake.declared import Wish
from modeldrop.intake.drops import (
    Drop,
    Job,
    Outcome,
    Watch,
    check_digests,
    check_unchanged,
    wanted_of,
)
from modeldrop.intake.inspection import Inspection
from modeldrop.intake.memory import known_as
from modeldrop.intake.observation import Observation, SeenFile
from modeldrop.intake.spent import MarkerSpent
from modeldrop.ledger import Request
from modeldrop.metadata import NOTHING, Metadata
from modeldrop.names import is_artifact_name, printable, refuse_component
from modeldrop.records import Revision, StoredFile
from modeldrop.registrar import Registered, Registrar
from modeldrop.runs import Committed, Runs
from modeldrop.settings import FormatSettings
from modeldrop.structs import replace
from modeldrop.transfer import Transfer, damage

_log = logging.getLogger(__name__)


class Storing:
    """Stores drops at one backend."""

    def __init__(
        self,
        runs: Runs,
        registrar: Registrar,
        transfer: Transfer,
        connections: int,
        formats: FormatSettings | None = None,
    ) -> None:
        """Commit to `runs`, with so many files of a run in flight at a time."""
        self.formats = formats or FormatSettings()
        """What becomes of files by what they are; may be set to others at any time."""
        self._runs = runs
        self._registrar = registrar
        self._transfer = transfer
        self._connections = connections

    def store(self, drop: Drop, request: Request, watch: Watch) -> Outcome:
        """Store a drop, and return the revision that holds it.

        Raises:
            SourceChanged: something changed since it was observed; nothing is committed.
            MarkerSpent: it changed after its marker had completed the last revision; as above.
            DropRefused: a person has to change it first.
            PermissionError: a file can't be read.
            BackendError: the backend failed; nothing is committed, as far as is known.
        """
        # Before the bytes too: an empty mount point would be filled with them.
        self._runs.check_backend()
        wanted = wanted_of(drop)
        inspection = Inspection(self.formats, wanted.files, drop.attempts.looked)
        if inspection.parks:
            # Before gigabytes are sent that are to be parked.
            for seen in wanted.files:
                watch.check()
                inspection.look_into(drop.staging, drop.name, seen)
            inspection.check()
        last = self._latest(drop)
        spent = drop.spent if drop.spent and drop.spent.made(last) else None
        if spent is not None and last is not None and not spent.allows(drop.observation):
            raise MarkerSpent(spent, last.revision)
        upload = layout.new_upload_id()
        _log.debug("step: ready")
        files, lost = self._send_all(drop, inspection, last, upload, watch)
        _log.debug("step: bytes stored")
        watch.verifying()
        files = _renamed(files, drop.called)
        check_digests(drop, files)
        seen_at = check_unchanged(drop)
        draft = wanted.draft(drop, upload, files, lost, inspection.formats(drop.called))
        if spent is None:
            watch.committing(upload)
        committed = self._runs.commit(draft, request)
        inspection.tell(drop.run)
        _log.debug("step: committed")
        drop.attempts.clear()
        return Outcome(committed, files, draft.refused, seen_at, wanted.declared.wish)

    def register(self, revision: Revision, wish: Wish, request: Request) -> Registered:
        """Register what a committed run wishes to be registered; idempotent.

        Raises:
            InvalidName: the run names no experiment.
            AmbiguousArtifact, ArtifactNotFound: it doesn't say which artifact, or that isn't there.
            ModeldropError: as for `Registrar.register`.
        """
        if revision.experiment is None:
            message = f"run {revision.run} names no experiment"
            raise InvalidName(message, hint=f"name it by `experiment` in {wish.said_in}")
        artifact = choose_artifact(revision, wish.artifact)
        self._transfer.require(artifact)
        return self._registrar.register(
            asked(
                revision.experiment,
                revision,
                artifact,
                request,
                by=request.user,
                description=wish.description,
            )
        )

    @property
    def shares_waits(self) -> bool:
        """Whether `store_together` is worth its while."""
        return self._transfer.shares_waits

    def store_together(self, jobs: Sequence[Job]) -> list[Outcome | None]:
        """Store small drops at the price of one; None stands for one that `store` has to store.

        Raises:
            Interrupted: by the check of a job; nothing is committed.
        """
        return together.store_together(self._runs, self._transfer, self.formats, jobs)

    def free(self) -> int | None:
        """Return how many bytes the backend has room for, or None where that can't be known."""
        return self._transfer.free()

    def verify(
        self, run: str, revision: int, moved: Callable[[int], None], check: Callable[[], None]
    ) -> None:
        """Read every stored byte of a revision again; `check` raises to stop.

        Raises:
            ArtifactDamaged: some of them aren't what was recorded.
        """

        def counted(size: int) -> None:
            check()
            moved(size)

        for artifact in self._runs.revision(run, revision).artifacts:
            bad = self._transfer.damaged(artifact, counted)
            if bad:
                raise damage(artifact, bad, self._runs.url)

    def _latest(self, drop: Drop) -> Revision | None:
        try:
            return self._runs.latest(drop.run, drop.seen)
        except RunNotFound:
            # What is remembered isn't there any more: count what is.
            return self._runs.latest(drop.run)

    def _send_all(
        self,
        drop: Drop,
        inspection: Inspection,
        last: Revision | None,
        upload: str,
        watch: Watch,
    ) -> tuple[dict[str, StoredFile], frozenset[str]]:
        """Return where the bytes of each path are, and which keys of `last` have lost theirs."""
        before = last.files() if last else {}
        described = {each.path: each for each in last.formats} if last else {}
        # What is let go is stored anew: its keys may be named by no other revision.
        gone = self._runs.collections.state(drop.run).leaves(last) if last else frozenset()
        committed = {
            (file.sha256, file.size): file.key for file in before.values() if file.key not in gone
        }
        by_content = drop.attempts.by_content() | committed
        lost: set[str] = set()

        def send(seen: SeenFile) -> StoredFile:
            watch.check()
            stored = find_or_send(seen)
            old = before.get(seen.path)
            if (
                old is not None
                and (old.sha256, old.size) == (stored.sha256, stored.size)
                and old.key != stored.key
                and (old.key in gone or not self._transfer.holds(old))
            ):
                what = "let go" if old.key in gone else "lost"
                _log.warning("run %s: %s was %s, and is stored again", drop.run, old.key, what)
                lost.add(old.key)
            return stored

        def find_or_send(seen: SeenFile) -> StoredFile:
            known = (drop.known or {}).get(known_as(seen.path, seen.signature))
            if known and committed.get((known.sha256, known.size)) == known.key:
                there = StoredFile(seen.path, known.sha256, known.size, known.key)
                if self._transfer.holds(there):
                    watch.found(known.size)
                    old = before.get(seen.path)
                    if old is not None and old.sha256 == known.sha256:
                        inspection.keep(seen, described.get(seen.path))
                    else:
                        inspection.look_into(drop.staging, drop.name, seen)
                    return there
            sent = drop.attempts.find(seen)
            if sent is not None and self._transfer.holds(sent):
                watch.found(sent.size)
                inspection.look_into(drop.staging, drop.name, seen)
                return sent
            key = layout.bytes_key(drop.run, upload, seen.path)
            stored = self._send(drop, inspection, seen, key, by_content, watch)
            drop.attempts.note(seen, stored)
            return stored

        every = inspection.files
        if len(every) == 1:
            return {every[0].path: send(every[0])}, frozenset(lost)
        with ThreadPoolExecutor(self._connections, thread_name_prefix="send") as pool:
            tasks = {seen.path: pool.submit(send, seen) for seen in every}
            try:
                files = {path: task.result() for path, task in tasks.items()}
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
        return files, frozenset(lost)

    def _send(
        self,
        drop: Drop,
        inspection: Inspection,
        seen: SeenFile,
        key: str,
        by_content: Mapping[tuple[str, int], str],
        watch: Watch,
    ) -> StoredFile:
        fd = walk.open_file(drop.staging, drop.name, seen.path, seen.signature)
        try:
            stored = self._send_open(drop, fd, seen, key, by_content, watch)
            inspection.look(fd, seen)
            return stored
        finally:
            os.close(fd)

    def _send_open(
        self,
        drop: Drop,
        fd: int,
        seen: SeenFile,
        key: str,
        by_content: Mapping[tuple[str, int], str],
        watch: Watch,
    ) -> StoredFile:
        def unchanged() -> None:
            watch.check()
            walk.check_unchanged(fd, seen.path, seen.signature)

        size = seen.signature.size
        if any(size == each for _, each in by_content):
            # What is there already isn't sent again; only equal sizes can be equal bytes.
            digest = self._transfer.digest(fd, size, unchanged)
            there = by_content.get((digest.sha256, digest.size))
            found = there and StoredFile(seen.path, digest.sha256, digest.size, there)
            if found and self._transfer.holds(found):
                watch.found(digest.size)
                return found
            os.lseek(fd, 0, os.SEEK_SET)
        begun = drop.attempts.begun(seen)
        if begun is not None:
            taken_up = self._take_up(begun, seen, fd, unchanged, watch)
            if taken_up is not None:
                return taken_up
        note = partial(drop.attempts.begin, seen, key) if drop.attempts.keeps_begun else None
        sent = self._transfer.send(fd, key, size, unchanged, watch.moved, note)
        return StoredFile(seen.path, sent.sha256, sent.size, key)

    def _take_up(
        self,
        begun: BegunUpload,
        seen: SeenFile,
        fd: int,
        unchanged: Callable[[], None],
        watch: Watch,
    ) -> StoredFile | None:
        """Go on with what an earlier attempt began of an open file, if that can be."""
        key, token = begun.key, begun.token
        if not can_be_gone_on_with(begun, seen):
            self._transfer.end(key, token, begun.size)
            return None
        size = seen.signature.size
        sent = self._transfer.resume(fd, key, token, size, unchanged, watch.moved, watch.found)
        return None if sent is None else StoredFile(seen.path, sent.sha256, sent.size, key)


def upload_path(
    storing: Storing,
    run: str,
    path: Path,
    request: Request,
    moved: Callable[[int], None],
    metadata: Metadata = NOTHING,
) -> Committed:
    """Store a file or a folder that isn't in staging as the artifact of a run's revision.

    Raises:
        DropRefused: there is nothing at the path, or something in it can't be stored.
        SourceChanged: it changed while it was read; nothing is committed.
    """
    # A link that was named is followed, and names the artifact; those in a folder are refused.
    place = path.resolve()
    name = path.name if path.is_symlink() else place.name
    shown = printable(str(path))
    if not place.exists() or not place.parent.name:
        where = "there is nothing" if not place.exists() else "the root of the file system is"
        message = f"{shown} can't be stored: {where} at that path"
        raise DropRefused(message, hint="name a file or a folder inside of another folder")

    def look() -> Observation:
        return _as_artifact(place)

    why = _no_artifact(place, name)
    if why is not None:
        message = f"{shown} can't be stored: {why}"
        raise DropRefused(message, hint="rename it, or put it into a folder and store that")
    observation = look()
    trouble = (*observation.refused, *observation.unreadable)
    if trouble or observation.temporary or not observation.files:
        names = [f"{each.path} ({each.reason})" for each in trouble]
        names += [f"{printable(each)} (a temporary file)" for each in observation.temporary]
        why = ", ".join(names) or "it has no file"
        message = f"{shown} can't be stored: {why}"
        raise DropRefused(message, hint="leave only regular files in it")
    # The folder above plays the run's folder: the artifact is one entry of it.
    drop = Drop(
        place.parent.parent,
        place.parent.name,
        run,
        observation,
        look,
        called=name,
        metadata=metadata,
    )
    return storing.store(drop, request, Watch(moved=moved, found=moved)).committed


def _no_artifact(place: Path, name: str) -> str | None:
    """Return why what is at a path can't be an artifact by its kind or that name, or None."""
    if not (place.is_file() or place.is_dir()):
        return "it is neither a regular file nor a folder"
    if not is_artifact_name(name):
        return "its name has a meaning of its own in a run"
    return refuse_component(name)


def _renamed(files: dict[str, StoredFile], name: str | None) -> dict[str, StoredFile]:
    """Return stored files by path, with another name for the only artifact, if there is one."""
    if name is None:
        return files
    renamed: dict[str, StoredFile] = {}
    for path, file in files.items():
        _, slash, below = path.partition("/")
        renamed[f"{name}{slash}{below}"] = replace(file, path=f"{name}{slash}{below}")
    return renamed


def _as_artifact(place: Path) -> Observation:
    """Return what is at a path as if it were the only entry of a run."""
    if not place.is_dir():
        seen = SeenFile(place.name, walk.Signature.of(place.stat(follow_symlinks=False)))
        return Observation(files=(seen,))
    inner = walk.observe(place.parent, place.name)
    return Observation(
        # What says something of a run is a file like any other inside of an artifact.
        files=tuple(
            SeenFile(f"{place.name}/{seen.path}", seen.signature) for seen in inner.everything()
        ),
        refused=inner.refused,
        temporary=inner.temporary,
        unreadable=inner.unreadable,
    )
