"""What is printed with `--json` of what homes share, import and export."""

from __future__ import annotations

from typing import Annotated, TypedDict


class EntryObject(TypedDict):
    """`log`: an entry of the journal, one on each line, as it stands there."""

    format: Annotated[int, "number of the format"]
    seq: Annotated[int, "its number in this journal: 1, 2, 3 …"]
    at: Annotated[str, "when it was written"]
    home: Annotated[str, "id of the home that wrote it"]
    host: Annotated[str, "name of the host"]
    user: Annotated[str, "the user that did it"]
    kind: Annotated[
        str,
        "what happened: home-created, home-copied, home-rebuilt, committed, registered, promoted, "
        "alias-removed, deployed, rolled-back, target-set, target-removed, retired, unretired, "
        "collection-marked, collection-kept, collected, key-created, key-trusted or signed",
    ]
    about: Annotated[list[str], "references that it is about"]
    request: Annotated[str, "id of the request"]
    details: Annotated[dict[str, object], "what else is known, by kind"]
    prev: Annotated[str, "digest of the entry before it"]
    sha256: Annotated[str, "digest of this entry"]


class PushObject(TypedDict):
    """`push`: what was shared."""

    home: Annotated[str, "id of this home; a new one, if it was restored"]
    entries: Annotated[int, "how many entries of its journal are shared now that weren't before"]
    segments: Annotated[int, "how many segments were created for them"]
    seq: Annotated[int, "the number of the last entry that is shared"]


class FetchedJournalObject(TypedDict):
    """The journal of another home."""

    home: Annotated[str, "id of the home"]
    host: Annotated[str, "name of its host; empty if nothing is known of it"]
    entries: Annotated[int, "how many of its entries are new here"]
    seq: Annotated[int, "the number of its last entry that is here"]
    trouble: Annotated[str | None, "why it could not be fetched, or not all of it"]


class FetchObject(TypedDict):
    """`fetch`: the journals of all other homes."""

    journals: Annotated[list[FetchedJournalObject], "each of them"]


class ImportCountObject(TypedDict):
    """How many of one kind an import met."""

    created: Annotated[int, "brought here; in a dry run, those that would be"]
    there: Annotated[int, "here before"]


class LeftObject(TypedDict):
    """Something that an import did not carry over."""

    kind: Annotated[str, "what it is, such as version, alias, run, file, tags or deployment"]
    name: Annotated[str, "what it is called"]
    reason: Annotated[str, "why, in words"]


class ImportObject(TypedDict):
    """`import`: what became of it."""

    source: Annotated[str, "mlflow, mlopsnet or bundle"]
    location: Annotated[str, "where it was read, without secrets"]
    dry_run: Annotated[bool, "whether nothing was changed"]
    complete: Annotated[bool, "whether all that has a place here is here"]
    runs: Annotated[ImportCountObject, "runs"]
    versions: Annotated[ImportCountObject, "versions, each under its number"]
    vacant: Annotated[ImportCountObject, "numbers that are left vacant"]
    aliases: Annotated[ImportCountObject, "aliases"]
    targets: Annotated[ImportCountObject, "deployment targets"]
    deployments: Annotated[ImportCountObject, "what was deployed there last, deployed here"]
    renamed: Annotated[dict[str, str], "what is called otherwise here, by its name there"]
    left: Annotated[list[LeftObject], "what has no place here, or stays as it is"]
    waiting: Annotated[list[LeftObject], "what can be imported once somebody does something"]
    conflicts: Annotated[list[LeftObject], "what is something else here"]


class ExportObject(TypedDict):
    """`export`: the bundle that was written."""

    path: Annotated[str, "path of the bundle"]
    size: Annotated[int, "its size"]
    versions: Annotated[list[str], "the versions and vacant numbers in it: churn/3"]
    runs: Annotated[list[str], "the revisions in it: run:GUID~1"]
