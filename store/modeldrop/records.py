"""What is written down: every record of docs/format.md, as bytes and back.

A record is one JSON object with `format`, `kind`, its own fields, and `record_sha256`, the digest
of its canonical form: the object without `record_sha256`, keys sorted, no white space, UTF-8. So

    jq -cjS 'del(.record_sha256)' FILE | sha256sum

gives it again. Records hold text, integers, booleans, null, lists and objects, never floats,
whose spelling differs between languages.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from json.encoder import encode_basestring
from typing import Any, ClassVar, Final, Self

from modeldrop.errors import NewerFormat, RecordDamaged, UsageError
from modeldrop.names import WHOLE_RUN, printable, refuse_path

FORMAT: Final = 1
# The first modeldrop that reads and writes FORMAT; format.json says it to those that can't.
NEEDS: Final = "modeldrop 0.1.0"

Json = str | int | bool | None | list["Json"] | dict[str, "Json"]
Fields = dict[str, Json]


def now() -> str:
    """Return the present time in UTC, RFC 3339 with microseconds."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def canonical(fields: Mapping[str, Json]) -> bytes:
    """Return the canonical form that `record_sha256` is the digest of."""
    bare = {key: value for key, value in fields.items() if key != "record_sha256"}
    return _dump(bare, indent=None)


def seal(kind: str, fields: Mapping[str, Json], *, indent: int | None = 2) -> bytes:
    """Return a record as it is stored: two-space JSON with format, kind and digest.

    With no `indent`, as one line: for what no person reads, which is written much faster.

    Raises:
        UsageError: a text in it can't be written as UTF-8.
    """
    whole: Fields = {"format": FORMAT, "kind": kind, **fields}
    whole["record_sha256"] = hashlib.sha256(canonical(whole)).hexdigest()
    return _dump(whole, indent=indent) + b"\n"


# Made once: to make one takes as long as to use it.
_encode: Final = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
).encode


def _indented(value: Json, newline: str = "\n") -> str:
    """Return what `json.dumps(value, indent=2)` does, in a third of its time.

    The library indents in Python, token by token; here it is only asked how a value is written.
    """
    if isinstance(value, str):
        return encode_basestring(value)
    inner = newline + "  "
    if isinstance(value, dict) and value:
        each = [
            f"{encode_basestring(key)}: {_indented(value[key], inner)}" for key in sorted(value)
        ]
        return f"{{{inner}{(',' + inner).join(each)}{newline}}}"
    if isinstance(value, list) and value:
        return f"[{inner}{(',' + inner).join([_indented(item, inner) for item in value])}{newline}]"
    return _encode(value)


def _dump(fields: Fields, indent: int | None) -> bytes:
    text = _encode(fields) if indent is None else _indented(fields)
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        message = f"{printable(text[error.start : error.end])!r} can't be written as UTF-8"
        raise UsageError(message, hint="use text that is valid UTF-8") from error


def unseal(data: bytes, kind: str, where: str) -> Mapping[str, object]:
    """Return the fields of a stored record after checking its digest, format and kind.

    Raises:
        RecordDamaged: it isn't what was written.
        NewerFormat: it is whole, and of a later format than this modeldrop reads.
    """
    found = _checked(data, where)
    if found.get("kind") != kind:
        raise damaged(where, f"it is no record of kind {kind!r}")
    return found


def _checked(data: bytes, where: str) -> Mapping[str, object]:
    try:
        found = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise damaged(where, "it is no JSON" if data.strip() else "it is empty") from error
    if not isinstance(found, dict):
        raise damaged(where, "it is no JSON object")
    try:
        digest = hashlib.sha256(canonical(found)).hexdigest()
    except (UsageError, ValueError, RecursionError) as error:
        raise damaged(where, "it has no canonical form") from error
    # The digest comes first: every later format keeps it, and a flipped bit in the
    # number of the format is damage, not news.
    if found.get("record_sha256") != digest:
        raise damaged(where, "its content doesn't have the digest that it carries")
    number = found.get("format")
    if type(number) is int and number > FORMAT:
        needs = found.get("needs", f"a modeldrop that knows format {number}")
        message = f"{where} is of format {number}; this modeldrop reads up to {FORMAT}"
        raise NewerFormat(message, hint=f"use {needs} or later")
    if type(number) is not int or number != FORMAT:  # true and 1.0 equal 1
        raise damaged(where, f"{number!r} is no format")
    return found


def owner_of(data: bytes, where: str) -> str:
    """Return whose record of a sequence this is.

    Raises:
        RecordDamaged: it isn't what was written.
    """
    owner = _checked(data, where).get("owner")
    if not isinstance(owner, str):
        raise damaged(where, "its field 'owner' is missing or of another type")
    return owner


def damaged(where: str, why: str) -> RecordDamaged:
    """Return the error that says what is wrong with the record at `where`."""
    return RecordDamaged(
        f"{where} is damaged: {why}",
        hint="`modeldrop verify` names everything that is damaged",
        detail={"where": where},
    )


class Part:
    """A dataclass that is JSON: out by `as_json`, in by `from_json`.

    The types its fields may have are those of `_TYPES`, and tuples of other parts, which name
    them by `parts_of`.
    """

    @classmethod
    def from_json(cls, found: Mapping[str, object], where: str) -> Self:
        """Return the part that these fields describe.

        Raises:
            RecordDamaged: a field is missing or of another type.
        """
        values: dict[str, Any] = {}
        for each in fields(cls):  # type: ignore[arg-type] # every subclass is a dataclass
            value = found.get(each.name)
            part: type[Part] | None = each.metadata.get("part")
            if part is not None:
                if not isinstance(value, list) or not all(isinstance(v, dict) for v in value):
                    raise damaged(where, f"its field {each.name!r} is no list of objects")
                values[each.name] = tuple(part.from_json(item, where) for item in value)
            elif type(value) in _TYPES[str(each.type)]:
                values[each.name] = value
            else:
                raise damaged(where, f"its field {each.name!r} is missing or of another type")
        return cls(**values)

    def as_json(self) -> Fields:
        """Return the part's fields as JSON."""
        return {
            each.name: [item.as_json() for item in getattr(self, each.name)]
            if "part" in each.metadata
            else getattr(self, each.name)
            for each in fields(self)  # type: ignore[arg-type] # every subclass is a dataclass
        }


# By how the annotation is spelled: exact types, since a bool is an int to isinstance.
_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "str": (str,),
    "str | None": (str, type(None)),
    "int": (int,),
    "int | None": (int, type(None)),
    "bool": (bool,),
}


def parts_of(part: type[Part]) -> Any:  # noqa: ANN401 - what dataclasses.field returns, too
    """Return the dataclass field of a tuple of parts."""
    return field(metadata={"part": part})


class Record(Part):
    """A part that is stored by itself, sealed with its kind, the format and its digest."""

    kind: ClassVar[str]
    indent: ClassVar[int | None] = 2

    def to_bytes(self) -> bytes:
        """Return the record as it is stored."""
        return seal(self.kind, self.as_json(), indent=self.indent)

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Self:
        """Return the record that these bytes hold; `where` names it in errors.

        Raises:
            RecordDamaged: it isn't what was written.
            NewerFormat: it is of a later format.
        """
        return cls.from_json(unseal(data, cls.kind, where), where)


@dataclass(frozen=True, slots=True)
class RepositoryRecord(Record):
    """`.modeldrop/format.json`: what this backend is."""

    kind: ClassVar[str] = "repository"
    repository: str
    created_at: str
    created_by: str
    needs: str = NEEDS


@dataclass(frozen=True, slots=True)
class StoredFile(Part):
    """One file of an artifact: where its bytes are, and which bytes they are."""

    path: str
    sha256: str
    size: int
    key: str


def folder_sha256(files: Iterable[tuple[str, str]]) -> str:
    r"""Return the digest of a folder from its files' (path, sha256).

    It is the sha256 of the lines `<sha256>  <path>\n`, sorted by the bytes of the path, so that
    `find . -type f -printf '%P\n' | LC_ALL=C sort | xargs -d '\n' sha256sum | sha256sum`
    gives the same, for a folder that isn't empty.
    """
    lines = sorted((path.encode("utf-8"), sha256.encode("ascii")) for path, sha256 in files)
    whole = hashlib.sha256()
    for path, sha256 in lines:
        whole.update(sha256 + b"  " + path + b"\n")
    return whole.hexdigest()


@dataclass(frozen=True, slots=True)
class Artifact(Part):
    """One top-level entry of a run: a file, or a folder with its files.

    The paths of a folder's files are relative to the folder; a file's path is its name.
    """

    artifact: str
    type: str  # "file" or "folder"
    sha256: str
    size: int
    files: tuple[StoredFile, ...] = parts_of(StoredFile)

    @classmethod
    def of_file(cls, stored: StoredFile) -> Self:
        """Return the artifact that is one file at the top of its run."""
        return cls(stored.path, "file", stored.sha256, stored.size, (stored,))

    @classmethod
    def of_folder(cls, name: str, files: Iterable[StoredFile]) -> Self:
        """Return the artifact that is a folder with these files."""
        ordered = tuple(sorted(files, key=lambda file: file.path.encode("utf-8")))
        digest = folder_sha256((file.path, file.sha256) for file in ordered)
        return cls(name, "folder", digest, sum(file.size for file in ordered), ordered)

    @classmethod
    def from_json(cls, found: Mapping[str, object], where: str) -> Self:
        """Return the artifact, its digest and size checked against its files'."""
        read = super(Artifact, cls).from_json(found, where)
        # These names become paths where it is pulled to, and a manifest is data from a store.
        for path in (read.artifact, *(file.path for file in read.files)):
            reason = refuse_path(path)
            if reason or (path == read.artifact and "/" in path):
                raise damaged(where, f"{printable(path)!r} is no path in a run")
        if read.type == "folder":
            again = cls.of_folder(read.artifact, read.files)
        elif read.type == "file" and len(read.files) == 1:
            again = cls.of_file(read.files[0])
        else:
            raise damaged(where, f"the artifact {read.artifact!r} is neither file nor folder")
        if again != read:
            raise damaged(where, f"the artifact {read.artifact!r} doesn't match its files")
        return read


@dataclass(frozen=True, slots=True)
class Refused(Part):
    """An entry of a run that isn't stored, and why."""

    path: str
    reason: str


@dataclass(frozen=True, slots=True)
class Revision(Record):
    """`<run>/revisions/<R>.json`, the manifest: one committed state of a run."""

    kind: ClassVar[str] = "revision"
    owner: str
    run: str
    revision: int
    experiment: str | None
    upload: str
    home: str
    host: str
    committed_by: str
    committed_at: str
    artifacts: tuple[Artifact, ...] = parts_of(Artifact)
    refused: tuple[Refused, ...] = parts_of(Refused)

    def files(self) -> dict[str, StoredFile]:
        """Return every stored file by its path relative to the run."""
        return {
            (file.path if artifact.type == "file" else f"{artifact.artifact}/{file.path}"): file
            for artifact in self.artifacts
            for file in artifact.files
        }

    def whole(self) -> Artifact:
        """Return the whole run as one folder artifact, named `.`."""
        return Artifact.of_folder(
            WHOLE_RUN,
            (
                StoredFile(path, file.sha256, file.size, file.key)
                for path, file in self.files().items()
            ),
        )

    def content(self) -> dict[str, str]:
        """Return what makes two revisions equal: each artifact's digest by its name."""
        return {artifact.artifact: artifact.sha256 for artifact in self.artifacts}


@dataclass(frozen=True, slots=True)
class Version(Record):
    """`experiments/<experiment>/versions/<N>.json`: which bytes a version number means."""

    kind: ClassVar[str] = "version"
    owner: str
    experiment: str
    version: int
    run: str
    revision: int
    artifact: str
    sha256: str
    size: int
    description: str
    home: str
    host: str
    registered_by: str
    registered_at: str


@dataclass(frozen=True, slots=True)
class Registration(Record):
    """`registrations/<owner>.json`, the claim: where a registration began to look."""

    kind: ClassVar[str] = "registration"
    owner: str
    experiment: str
    run: str
    artifact: str
    sha256: str
    nonce: str | None
    starts_at: int
    claimed_by: str
    claimed_at: str


def registration_owner(
    experiment: str, run: str, artifact: str, sha256: str, nonce: str | None
) -> str:
    """Return the owner of a registration: the digest of what is registered.

    It is the sha256 of the JSON list `[experiment, run, artifact, sha256, nonce]` without white
    space; the nonce is null except for `--again`.
    """
    what: list[Json] = [experiment, run, artifact, sha256, nonce]
    text = json.dumps(what, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


@dataclass(frozen=True, slots=True)
class RegistrationDone(Record):
    """`registrations/<owner>.done.json`: the version that a registration came to."""

    kind: ClassVar[str] = "registration-done"
    owner: str
    experiment: str
    version: int


@dataclass(frozen=True, slots=True)
class HomeRecord(Record):
    """`home.json`: which home this is, and of which machine and backend."""

    kind: ClassVar[str] = "home"
    home: str
    repository: str
    machine: str
    inode: int
    created_at: str
    created_by: str
    needs: str = NEEDS


@dataclass(frozen=True, slots=True)
class Probe(Record):
    """`backend.json`: whether create-if-absent held at the backend when it was raced."""

    kind: ClassVar[str] = "probe"
    url: str
    endpoint: str | None
    holds: bool
    single_writer: bool
    racers: int
    rounds: int
    most_winners: int
    probed_at: str
    probed_with: str


@dataclass(frozen=True, slots=True)
class Counter(Record):
    """`refs/<experiment>`: the last version that this home has seen; a hint, never the truth."""

    kind: ClassVar[str] = "counter"
    experiment: str
    version: int
    repository: str


@dataclass(frozen=True, slots=True)
class Head(Record):
    """`HEAD`: how far the journal is acknowledged."""

    kind: ClassVar[str] = "head"
    seq: int
    start: int
    offset: int
    sha256: str


@dataclass(frozen=True, slots=True)
class PushedRecord(Record):
    """`pushed.json`: how far the own journal was shared; a hint."""

    kind: ClassVar[str] = "pushed"
    home: str
    seq: int
    start: int
    offset: int
    sha256: str

    @property
    def head(self) -> Head:
        """The last line that was shared."""
        return Head(self.seq, self.start, self.offset, self.sha256)


@dataclass(frozen=True, slots=True)
class FetchedRecord(Record):
    """`journals/<home>.json`: how far another home's journal was fetched."""

    kind: ClassVar[str] = "fetched"
    home: str
    host: str
    seq: int
    start: int
    offset: int
    sha256: str
    segment: int  # the number of the first line of the last segment
    begins: int  # where that segment begins

    @property
    def head(self) -> Head:
        """The last line that was fetched."""
        return Head(self.seq, self.start, self.offset, self.sha256)


@dataclass(frozen=True, slots=True)
class Intent(Record):
    """A line of `intents/<request>.jsonl`: what a request was about to append when it began."""

    kind: ClassVar[str] = "intent"
    indent: ClassVar[int | None] = None
    request: str
    sequence: str
    owner: str
    starts_at: int
    journal_seq: int
    journal_offset: int
    user: str
    begun_at: str
