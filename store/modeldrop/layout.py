"""Where everything is: every key at the backend and every path of the home, in one place.

Keys are relative to the backend's URL, with `/` between their components. docs/format.md is the
specification of both trees.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from modeldrop.names import parse_guid

META: Final = ".modeldrop"
FORMAT_KEY: Final = f"{META}/format.json"
WRITER_KEY: Final = f"{META}/writer.json"
EXPERIMENTS: Final = f"{META}/experiments"
TARGETS: Final = f"{META}/targets"
JOURNALS: Final = f"{META}/journals"
PROBES: Final = f"{META}/probes"
# Below a target's URL.
TARGET_MARKER: Final = ".modeldrop-target.json"

# A component of a key as it stands; every other byte is percent-encoded. None of these has a
# meaning in a URL, a glob, a shell or an SDK's path, so no layer between here and the store can
# read a name as something else.
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")
# Local file systems end names at 255 bytes, S3 ends keys at 1,024, prefix included.
_MOST_COMPONENT: Final = 200
_MOST_PATH: Final = 700

_RECORD: Final = re.compile(r"([0-9]{8,})\.json")
_SEGMENT: Final = re.compile(r"([0-9]{8,})\.jsonl")
_SIGNATURE: Final = re.compile(r"([0-9a-f]{64})\.json")
_COPY: Final = re.compile(r"[0-9]{8}T[0-9]{6}Z-[0-9a-f]{16}")
_DEPLOYMENTS: Final = re.compile(rf"{re.escape(EXPERIMENTS)}/([^/]+)/deployments/([^/]+)")


def new_upload_id() -> str:
    """Return a readable, unique name for one upload: UTC time and 64 random bits."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(8)}"


def upload_began(key: str) -> datetime | None:
    """Return when the upload that a file's key is of began, or None if it is no such key."""
    run, _, rest = key.partition("/")
    upload = rest.partition("/")[0].partition("-")[0]
    if not is_run_folder(run):
        return None
    try:
        return datetime.strptime(upload, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return None


def upload_of(key: str) -> str:
    """Return the upload id in a file's key; ids compare as the times at which they began do."""
    return key.partition("/")[2].partition("/")[0]


def upload_at(began: datetime) -> str:
    """Return what every upload id that began before a time is less than."""
    return f"{began:%Y%m%dT%H%M%SZ}"


def encode_path(path: str) -> str:
    """Return the part of a key that stands for a path relative to a run.

    Readers take keys from manifests and never compute them, so this may lose information: what
    would be too long becomes `~` and the sha256 of the path.
    """
    components = [_encode(component) for component in path.split("/")]
    encoded = "/".join(components)
    if len(encoded) > _MOST_PATH or any(len(c) > _MOST_COMPONENT for c in components):
        return "~" + hashlib.sha256(path.encode("utf-8")).hexdigest()
    return encoded


def _encode(component: str) -> str:
    raw = component.encode("utf-8")
    text = "".join(chr(byte) if byte in _PLAIN else f"%{byte:02X}" for byte in raw)
    # "." and ".." mean something to a file system, and a leading dot may hide a temporary file.
    return f"%2E{text[1:]}" if text.startswith(".") else text


def bytes_key(run: str, upload: str, path: str) -> str:
    """Return the key of one uploaded file."""
    return f"{run}/{upload}/{encode_path(path)}"


def revisions(run: str) -> str:
    """Return the folder of a run's revisions: a sequence."""
    return f"{run}/revisions"


def collections(run: str) -> str:
    """Return the folder of what was let go of a run: a sequence."""
    return f"{run}/collections"


def versions(experiment: str) -> str:
    """Return the folder of an experiment's versions: a sequence."""
    return f"{EXPERIMENTS}/{experiment}/versions"


def registration(experiment: str, owner: str) -> str:
    """Return the key of a registration's claim."""
    return f"{EXPERIMENTS}/{experiment}/registrations/{owner}.json"


def registration_done(experiment: str, owner: str) -> str:
    """Return the key of what a registration came to."""
    return f"{EXPERIMENTS}/{experiment}/registrations/{owner}.done.json"


def aliases(experiment: str) -> str:
    """Return the folder of an experiment's aliases, each of which is a folder in it."""
    return f"{EXPERIMENTS}/{experiment}/aliases"


def moves(experiment: str, alias: str) -> str:
    """Return the folder of an alias's moves: a sequence."""
    return f"{aliases(experiment)}/{alias}"


def registrations(experiment: str) -> str:
    """Return the folder of the claims of an experiment, and of what they came to."""
    return f"{EXPERIMENTS}/{experiment}/registrations"


def retirements(experiment: str, version: int | None = None) -> str:
    """Return the folder of a version's retirements: a sequence; or that of all versions."""
    folder = f"{EXPERIMENTS}/{experiment}/retirements"
    return folder if version is None else f"{folder}/{digits(version)}"


def target(name: str) -> str:
    """Return the folder of what a target was and is: a sequence."""
    return f"{TARGETS}/{name}"


def deployed(experiment: str) -> str:
    """Return the folder of an experiment's deployments, with a folder for each target."""
    return f"{EXPERIMENTS}/{experiment}/deployments"


def deployments(experiment: str, target: str) -> str:
    """Return the folder of an experiment's deployments to a target: a sequence."""
    return f"{deployed(experiment)}/{target}"


def place_of_deployments(sequence: str) -> tuple[str, str] | None:
    """Return experiment and target of a sequence of deployments; None if it is another one."""
    found = _DEPLOYMENTS.fullmatch(sequence)
    return None if found is None else (found[1], found[2])


def current_link(experiment: str) -> str:
    """Return the name, below a target's URL, that leads to the copy that is live."""
    return f"{experiment}/current"


def current_record(experiment: str) -> str:
    """Return the key, below a target's URL, of the record of what is live."""
    return f"{experiment}/current.json"


def current_lock(experiment: str) -> str:
    """Return the lock, below a target's URL, of those who switch what is live."""
    return f"{experiment}/.current.lock"


def new_copy(experiment: str, version: int) -> str:
    """Return the folder, below a target's URL, of a new copy of a version."""
    return f"{experiment}/{version}/{new_upload_id()}"


def is_copy(folder: str, experiment: str, version: int) -> bool:
    """Return whether a folder, below a target's URL, is one that `new_copy` may have named."""
    copy = folder.removeprefix(f"{experiment}/{version}/")
    return copy != folder and _COPY.fullmatch(copy) is not None


def numbered(sequence: str, number: int) -> str:
    """Return the key of record `number` of a sequence."""
    return f"{sequence}/{digits(number)}.json"


def digits(number: int) -> str:
    """Return a number as it is spelled in keys."""
    return f"{number:08d}"


def number_of(key: str) -> int | None:
    """Return the number in the key of a sequence's record, or None if it isn't one."""
    return _number(_RECORD.fullmatch(key.rpartition("/")[2]))


def journal_segments(home: str) -> str:
    """Return the folder of the sealed segments of a home's journal."""
    return f"{JOURNALS}/{home}"


def journal_segment(home: str, first: int) -> str:
    """Return the key of the segment whose first line has this number."""
    return f"{JOURNALS}/{home}/{first:08d}.jsonl"


def home_keys(home: str) -> str:
    """Return the folder of the keys of a home."""
    return f"{JOURNALS}/{home}/keys"


def checkpoints(home: str) -> str:
    """Return the folder of what a home has signed of its journal."""
    return f"{JOURNALS}/{home}/checkpoints"


def all_signatures(experiment: str) -> str:
    """Return the folder of the signatures of all versions, each of which is a folder in it."""
    return f"{EXPERIMENTS}/{experiment}/signatures"


def signatures(experiment: str, version: int) -> str:
    """Return the folder of the signatures of a version."""
    return f"{all_signatures(experiment)}/{digits(version)}"


def signature(experiment: str, version: int, digest: str) -> str:
    """Return the key of a signature whose bundle has this digest."""
    return f"{signatures(experiment, version)}/{digest}.json"


def signature_digest(name: str) -> str | None:
    """Return the digest in the name of a signature's record, or None if it is none."""
    found = _SIGNATURE.fullmatch(name)
    return found[1] if found else None


def segment_number(name: str) -> int | None:
    """Return the number of a segment's first line, or None if no segment has such a name."""
    return _number(_SEGMENT.fullmatch(name))


def _number(found: re.Match[str] | None) -> int | None:
    number = int(found[1]) if found else 0
    # Only as `numbered` spells it: 000000001.json is not the record of number 1.
    return number if number and found and found[1] == digits(number) else None


def probe(round_id: str) -> str:
    """Return the key that one round of the probe races for."""
    return f"{PROBES}/{round_id}.json"


class HomePaths:
    """The paths in a home."""

    def __init__(self, root: Path) -> None:
        """Lay out the home at `root`, an absolute path."""
        self.root = root
        self.config = root / "config.toml"
        self.record = root / "home.json"
        self.probe = root / "backend.json"
        self.journal = root / "journal.jsonl"
        self.head = root / "HEAD"
        self.deploying = root / "deploying"
        self.refs = root / "refs"
        self.objects = root / "objects"
        self.manifests = root / "manifests"
        self.staging = root / "staging"
        self.model_repository = root / "model-repository"
        self.intents = root / "intents"
        self.torn = root / "torn"
        self.errands = root / "errands"
        self.service = root / "service"
        self.locks = root / "locks"
        self.pushed = root / "pushed.json"
        self.journals = root / "journals"
        self.keys = root / "keys"
        self.key_record = self.keys / "key.json"
        self.sealed = self.keys / "sealed.json"
        self.signed = self.keys / "signed.jsonl"
        self.trusted = root / "trusted"
        self.index = root / "index" / "index.sqlite"

    def folders(self) -> tuple[Path, ...]:
        """Return every folder that a home is made with, but for staging and backend."""
        return (
            self.refs,
            self.objects,
            self.intents,
            self.torn,
            self.service,
            self.service / "runs",
            self.locks,
            self.locks / "refs",
            self.locks / "runs",
        )

    def counter(self, name: str) -> Path:
        """Return the counter of a sequence.

        `churn` are the versions of an experiment, `churn@champion` the moves of an alias, and
        `churn+production` the deployments to a target.
        """
        return self.refs / name

    def deployment_note(self, request: str) -> Path:
        """Return the note of what a deployment is about to copy."""
        return self.deploying / f"{request}.json"

    def counter_lock(self, name: str) -> Path:
        """Return the lock of the same on this host."""
        return self.locks / "refs" / name

    def retirement_lock(self, experiment: str) -> Path:
        """Return the lock of those that retire versions of an experiment."""
        # No experiment and no alias has such a name.
        return self.locks / "refs" / f"{experiment}~retired"

    def run_lock(self, run: str) -> Path:
        """Return the lock of a run's revisions on this host, which 256 groups of runs share.

        A lock file is never unlinked, so one for each run would stay for ever.
        """
        return self.locks / "runs" / run[:2]

    def group_lock(self) -> Path:
        """Return the lock of those that commit a group of runs."""
        return self.locks / "groups"

    def journal_lock(self) -> Path:
        """Return the lock of those that write to the journal."""
        return self.locks / "journal"

    def fetched_journal(self, home: str) -> Path:
        """Return what was fetched of another home's journal."""
        return self.journals / f"{home}.jsonl"

    def fetched_head(self, home: str) -> Path:
        """Return how far another home's journal was fetched."""
        return self.journals / f"{home}.json"

    def journal_key(self, number: int) -> Path:
        """Return the private key for the journal, of the home's key of this number."""
        return self.keys / f"journal-{number}.pem"

    def model_key(self, number: int) -> Path:
        """Return the private key for models, of the home's key of this number."""
        return self.keys / f"models-{number}.pem"

    def trusted_key(self, home: str) -> Path:
        """Return whose key another home's is taken for."""
        return self.trusted / f"{home}.json"

    def push_lock(self) -> Path:
        """Return the lock of those that share this home's journal."""
        return self.locks / "push"

    def fetch_lock(self) -> Path:
        """Return the lock of those that fetch other homes' journals."""
        return self.locks / "fetch"

    def service_lock(self) -> Path:
        """Return the lock that the service of this home holds while it lives."""
        return self.locks / "service"

    def run_state(self, run: str) -> Path:
        """Return what the service remembers of a run."""
        return self.service / "runs" / run[:2] / f"{run}.json"

    def standing(self, run: str) -> Path:
        """Return what the service keeps of a run that isn't committed."""
        return self.service / "standing" / f"{run}.json"

    def spent_marker(self, run: str) -> Path:
        """Return what the service keeps of the marker that a run is being stored by."""
        return self.service / "spent" / f"{run}.json"

    def begun_uploads(self, run: str = "") -> Path:
        """Return the folder of what the service keeps of a run's unfinished uploads, or of all."""
        return self.service / "uploads" / run

    def requests(self) -> Path:
        """Return the folder of what people ask of the service."""
        return self.service / "requests"

    def status(self) -> Path:
        """Return the status that the service writes for people and programs."""
        return self.service / "status.json"

    def hooks(self) -> Path:
        """Return how far in the journal the service has come with its hooks."""
        return self.service / "hooks.json"

    def fetched_at(self) -> Path:
        """Return when other homes' journals were fetched, all of them, without trouble."""
        return self.service / "fetched.json"

    def collected(self) -> Path:
        """Return when the service collected what came to no end."""
        return self.service / "collected.json"

    def manifest(self, run: str, revision: int) -> Path:
        """Return where the copy of a revision's manifest is kept."""
        return self.manifests / run[:2] / f"{run}~{revision}.json"

    def cached(self, sha256: str, name: str) -> Path:
        """Return where a pulled artifact is cached."""
        return self.objects / sha256[:2] / sha256 / name


def is_run_folder(name: str) -> bool:
    """Return whether a folder at the top of a backend is a run's."""
    return parse_guid(name) == name
