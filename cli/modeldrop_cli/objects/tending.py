"""What is printed with `--json` by whoever looks after the store."""

from __future__ import annotations

from typing import Annotated, TypedDict


class FindingObject(TypedDict):
    """Something that `verify` found damaged or missing."""

    kind: Annotated[
        str,
        "journal, home, repository, revision, version, alias, deployment, target, retirement, "
        "collection, signature or file",
    ]
    where: Annotated[str, "the record or file, by its reference; in the journal, the byte offset"]
    what: Annotated[str, "what is wrong with it, in words"]


class SignedJournalObject(TypedDict):
    """Whether the journal of a home is signed."""

    home: Annotated[str, "id of the home"]
    host: Annotated[str, "name of its host"]
    state: Annotated[
        str,
        "signed, unsigned, wrong (findings say why), or not checked: signatures can't be checked "
        "here",
    ]
    seq: Annotated[int, "up to which entry it is signed; 0 if none is"]
    entries: Annotated[int, "how many entries it has"]
    key: Annotated[str, "fingerprint of the key; empty if there is none"]
    pinned: Annotated[bool, "whether this home knew the key before"]


class JudgedObject(TypedDict):
    """A signature of a version, and what it is worth."""

    sha256: Annotated[str, "digest of the signature, which is its name"]
    signer: Annotated[str, "whose it is, by the keys that were asked for; empty if nobody's"]
    trouble: Annotated[str, "what is wrong with it; empty if nothing is"]
    host: Annotated[str, "name of the host that added it"]
    added_by: Annotated[str, "who added it"]
    added_at: Annotated[str, "when"]


class VerifyObject(TypedDict):
    """`verify`: what was checked, and what was found."""

    ok: Annotated[bool, "whether nothing was found"]
    deep: Annotated[bool, "whether every byte was read"]
    checked: Annotated[dict[str, int], "how many of what were checked"]
    findings: Annotated[list[FindingObject], "everything that was found"]
    journals: Annotated[
        list[SignedJournalObject], "each home's journal; empty where one model is checked"
    ]
    signatures: Annotated[list[JudgedObject], "with --signature: each of them"]


class CollectedObject(TypedDict):
    """One thing that goes, or will."""

    kind: Annotated[
        str,
        "upload or file: a crash left it; bytes: no manifest names them; artifact: it is let go; "
        "marked: it goes a day later at the earliest; store: nothing that is stored may go",
    ]
    where: Annotated[str, "its URL at the backend, its path, or the artifact's reference"]
    touched_at: Annotated[str, "when something of it was written last"]
    size: Annotated[int | None, "how many bytes it has; null if the store doesn't say"]
    trouble: Annotated[str, "why it could not be removed; empty if it was"]


class GcObject(TypedDict):
    """`gc`: what was collected."""

    dry_run: Annotated[bool, "whether it only would be"]
    collected: Annotated[list[CollectedObject], "everything that was found"]


class PrunedObject(TypedDict):
    """A cached artifact that was removed."""

    sha256: Annotated[str, "its digest"]
    size: Annotated[int, "how many bytes it had"]
    used_at: Annotated[str, "when it was pulled or asked for last"]


class PruneObject(TypedDict):
    """`cache prune`: what was removed."""

    dry_run: Annotated[bool, "whether it only would be"]
    removed: Annotated[list[PrunedObject], "what wasn't used for longest, first"]
    left: Annotated[int, "how many bytes the cache has now, or would have"]


class CleanedObject(TypedDict):
    """A staged copy that was deleted."""

    run: Annotated[str, "GUID of the run"]
    folder: Annotated[str, "path of its staging folder"]
    stored_at: Annotated[str, "when it was stored"]
    size: Annotated[int, "how many of its bytes are stored"]
    trouble: Annotated[str, "why it stays; empty if it is deleted"]


class CleanObject(TypedDict):
    """`clean`: the staged copies that were deleted."""

    dry_run: Annotated[bool, "whether they only would be"]
    cleaned: Annotated[list[CleanedObject], "each of them"]


class RebuildObject(TypedDict):
    """`rebuild`: what the journal was made of again."""

    source: Annotated[str | None, "backend, home, or nothing; null if it is whole"]
    entries: Annotated[int, "how many entries were taken from there"]
    recovered: Annotated[int, "how many were made again from records at the backend"]
    lost: Annotated[int | None, "how many there were beyond those taken; null if nobody knows"]
    seq: Annotated[int, "the number of the last entry now"]
    troubles: Annotated[list[str], "what could not be read at the backend"]


class CheckObject(TypedDict):
    """One thing that `doctor` looked at."""

    check: Annotated[str, "what was looked at"]
    result: Annotated[str, "ok, warning or problem"]
    what: Annotated[str, "what was found"]
    todo: Annotated[str, "what to do about it; empty if it is ok"]


class DoctorObject(TypedDict):
    """`doctor`: everything that was looked at."""

    ok: Annotated[bool, "whether there is no problem; there may be warnings"]
    checks: Annotated[list[CheckObject], "in the order in which they were made"]
