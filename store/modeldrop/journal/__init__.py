"""The journal: what happened, in order, one checksummed line a commit, and a TinyDB table over it.

Purpose: an audit trail that keeps what it acknowledged through kill -9 and power loss, takes
entries at a cost that doesn't grow with it, and reports damage by its byte offset. It says what
happened; what is so, the sequences at the backend say.

Calling sequence: `Journal(paths, home, host)` costs nothing. `append` puts down entries and
returns them with their numbers: they are acknowledged then. `entries` (oldest first), `newest`
(newest first) and `check` read and verify. `recover`, once at a start and before a request looks
for its own earlier attempt, settles what a dead writer left. `table` is for TinyDB's queries;
only it imports TinyDB.

On disk, in the home:

    journal.jsonl   one line an entry, as `lines` describes: numbers dense from 1; each carries
                    its own sha256 and, in `prev`, that of the line before (64 zeros: none).
    HEAD            a record of kind `head`: number, first byte, end and sha256 of the last
                    acknowledged line. All zeros before the first, and never missing beside lines.
    torn/           what was cut: `<UTC time>-<offset>.bin`, the bytes that stood at that offset.
    locks/journal   held by the one who writes; never by readers.

Threads that append at the same time share one commit (`group`).

Other homes' journals, as far as they were fetched, stand beside it (`copies`); what goes from one
home to another are `segments`.

Write order: (first time: journal.jsonl, empty → HEAD of no line) → lines → fdatasync → HEAD,
written durably. An entry is acknowledged once HEAD covers it, never before.

A chain alone can't protect its newest line, since damage there looks like a torn write. HEAD
can: the file has to reach HEAD, and the line that ends there has to be the one it names. So below
HEAD all damage is an error, and only past it may a torn line be cut. To write, the last line is
checked; to read, each line that is read.

What readers see: they read HEAD and then the file up to it, where no byte changes any more. What
they see only grows, line by whole line, and what a writer is at is not among it. No lock.

What a crash leaves: what HEAD covers, whole; past it, perhaps whole lines (adopted by the next
writer, HEAD brought forward over them) and perhaps a torn one (cut, its bytes first kept). A
HEAD that is missing beside lines, or doesn't match the journal, is never a crash's doing.

When the disk fails: the error says that the journal has no entry, or that this is unknown. A sync
that failed isn't tried again, since the kernel forgets what it couldn't write: the next writer,
of this handle or another, opens the journal anew, reads HEAD, cuts what is torn past it, and
writes the whole lines that it adopts once more before it waits for the disk. Until it has done so,
nothing is acknowledged. So a disk that has room again heals the journal, without a restart.
Reading goes on. Not for a home on NFS or SMB.
"""

from __future__ import annotations

from modeldrop.journal.copies import Copies
from modeldrop.journal.lines import Entry, NewEntry
from modeldrop.journal.log import Journal

__all__ = ["Copies", "Entry", "Journal", "NewEntry"]
