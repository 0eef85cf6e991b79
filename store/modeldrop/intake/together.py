"""Storing many small runs at the price of one.

A small run takes next to no time to send; what takes time is to wait for the disk, some eight
times for each run, and those waits can be shared. So runs that are complete at about the same
time go the way of `storing` side by side: their bytes, intents and manifests by one wait, then the
names of them all, then all their entries in the journal.

Only what is simple goes this way: the first revision of a run, of which the backend has no folder
yet. Bytes and manifest are put together aside, and appear at once. Whatever else it turns out to
be, and whatever fails, is left to `storing`, which knows about all of that, and tells what is wrong
with which run.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from typing import Final

from modeldrop import layout
from modeldrop.batch import Batch, Pending
from modeldrop.errors import Interrupted
from modeldrop.intake import walk
from modeldrop.intake.drops import (
    Job,
    Outcome,
    Wanted,
    check_digests,
    check_unchanged,
    wanted_of,
)
from modeldrop.intake.inspection import Inspection
from modeldrop.intake.observation import Observation
from modeldrop.records import StoredFile
from modeldrop.runs import Draft, Runs
from modeldrop.settings import FormatSettings
from modeldrop.structs import Struct, field
from modeldrop.transfer import Sent, Transfer

_log = logging.getLogger(__name__)

# A run of up to so many bytes may go with others, if it hasn't more files than that.
SMALL: Final = 2**20
_MOST_FILES: Final = 16


_Sent = tuple[str, Sent, Pending]
"""The key of a file, what arrives there, and what becomes of it with the batch."""


class _Begun(Struct):
    """A run whose bytes are in the batch."""

    number: int
    job: Job
    wanted: Wanted
    upload: str
    sent: list[_Sent]
    inspection: Inspection
    files: dict[str, StoredFile] = field(default_factory=dict)
    seen_at: float = 0.0

    def draft(self) -> Draft:
        formats = self.inspection.formats()
        return self.wanted.draft(self.job.drop, self.upload, self.files, formats=formats)


def is_simple(observation: Observation) -> bool:
    """Return whether a run that is new may go with others, by what was seen of it."""
    return len(observation.files) <= _MOST_FILES and observation.size() <= SMALL


def store_together(
    runs: Runs, transfer: Transfer, formats: FormatSettings, jobs: Sequence[Job]
) -> list[Outcome | None]:
    """Store drops side by side; return what became of each, None where it is to be stored alone.

    One that `formats` parks is to be stored alone, and finds out there.

    Raises:
        Interrupted: by the check of a job; nothing is committed.
    """
    outcomes: list[Outcome | None] = [None] * len(jobs)
    if not transfer.shares_waits:
        return outcomes
    begun: list[_Begun] = []
    with Batch() as batch:
        try:
            # Before the bytes: an empty mount point would be filled with them.
            runs.check_backend()
            begun += _begin_all(runs, transfer, formats, batch, jobs)
            if begun:
                _commit(runs, transfer, batch, begun, outcomes)
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001 - each is told by itself what is wrong
            _log.debug("%d runs are stored one by one: %r", len(jobs), error)
    return outcomes


def _begin_all(
    runs: Runs, transfer: Transfer, formats: FormatSettings, batch: Batch, jobs: Sequence[Job]
) -> Iterator[_Begun]:
    for number, job in enumerate(jobs):
        sent: list[_Sent] = []
        try:
            begun = _begin(runs, transfer, formats, batch, number, job, sent)
        except Interrupted:
            raise
        except Exception as error:  # noqa: BLE001 - one bad run holds up no other
            _log.debug("run %s is stored alone: %r", job.drop.run, error)
            batch.drop([pending for _, _, pending in sent])
        else:
            if begun is not None:
                yield begun
    _log.debug("step: ready")


def _begin(
    runs: Runs,
    transfer: Transfer,
    formats: FormatSettings,
    batch: Batch,
    number: int,
    job: Job,
    into: list[_Sent],
) -> _Begun | None:
    drop = job.drop
    job.watch.check()
    if runs.last(drop.run):
        return None
    wanted = wanted_of(drop)
    begun = _Begun(
        number, job, wanted, layout.new_upload_id(), into, Inspection(formats, wanted.files)
    )
    for seen in begun.wanted.files:
        key = layout.bytes_key(drop.run, begun.upload, seen.path)
        fd = walk.open_file(drop.staging, drop.name, seen.path, seen.signature)
        try:

            def unchanged() -> None:
                walk.check_unchanged(fd, seen.path, seen.signature)  # noqa: B023 - called at once

            sending = transfer.send_in(batch, fd, key, seen.signature.size, unchanged)
            if sending is not None:
                begun.inspection.look(fd, seen)
        finally:
            os.close(fd)
        if sending is None:
            return None
        sent, pending = sending
        begun.sent.append((key, sent, pending))
        begun.files[seen.path] = StoredFile(seen.path, sent.sha256, sent.size, key)
        job.watch.moved(sent.size)
    begun.inspection.check()
    check_digests(drop, begun.files)
    begun.seen_at = check_unchanged(drop)
    job.watch.verifying()
    job.watch.committing(begun.upload)
    return begun


def _commit(
    runs: Runs,
    transfer: Transfer,
    batch: Batch,
    begun: Sequence[_Begun],
    outcomes: list[Outcome | None],
) -> None:
    def arrived() -> None:
        for each in begun:
            for key, sent, pending in each.sent:
                transfer.check_batch(key, sent, pending)
        _log.debug("step: bytes stored")

    drafts = [each.draft() for each in begun]
    requests = [each.job.request for each in begun]
    pending = [[each for _, _, each in run.sent] for run in begun]
    became = runs.commit_firsts(list(zip(drafts, requests, pending, strict=True)), batch, arrived)
    _log.debug("step: committed")
    for each, draft, committed in zip(begun, drafts, became, strict=True):
        if committed is not None:
            each.inspection.tell(each.job.drop.run)
            each.job.drop.attempts.clear()
            outcomes[each.number] = Outcome(
                committed, each.files, draft.refused, each.seen_at, each.wanted.declared.wish
            )
