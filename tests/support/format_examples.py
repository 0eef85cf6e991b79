"""The examples of docs/format.md: one of each record, as the code writes it."""

from __future__ import annotations

from typing import TypeVar
from unittest import mock

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519

from modeldrop import keys
from modeldrop.deployment_records import (
    CopyLetGo,
    Current,
    Deploying,
    Deployment,
    KeptCopy,
    Target,
    TargetMarker,
)
from modeldrop.form import NEEDS, Record
from modeldrop.home_records import (
    Counter,
    DeploymentCounter,
    FetchedRecord,
    HomeRecord,
    Intent,
    MoveCounter,
    Probe,
    PushedRecord,
    VersionWanted,
)
from modeldrop.journal import NewEntry, lines
from modeldrop.metadata import Code, Dataset, Environment, Metadata
from modeldrop.records import (
    AliasMove,
    Artifact,
    Bundle,
    Collection,
    FileFormat,
    Head,
    LetGo,
    Member,
    Origin,
    Refused,
    Registration,
    RegistrationDone,
    RepositoryRecord,
    Retirement,
    Revision,
    StoredFile,
    VacantVersion,
    Version,
    WriterRecord,
    registration_owner,
    vacant_owner,
)
from modeldrop.signed_records import (
    Checkpoint,
    HomeKey,
    ModelSignature,
    Sealed,
    Trusted,
    Witnessed,
    signed_part,
)
from modeldrop.structs import replace

# Made from 32 bytes of 1, so that whoever wants to can check the examples' signatures.
_PRIVATE = ed25519.Ed25519PrivateKey.from_private_bytes(bytes([1] * 32)).private_bytes(
    serialization.Encoding.PEM,
    serialization.PrivateFormat.PKCS8,
    serialization.NoEncryption(),
)
_PUBLIC = keys.public_of(_PRIVATE, "the example")
# The generator of P-256: a public key of which everybody knows the private one, which is 1.
_MODELS = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpZP40Li/hp/m47n60p8"
    "D54WK84zV2sxXs7LtkBoN79R9Q=="
)

RUN = "3f2b8c1e-5d7a-4c0b-9a61-0f6e2d4b7a90"
UPLOAD = "20260314T092653Z-9f1c0a7be4d25836"
COPY = "churn/1/20260314T092653Z-0b8f6a527d1e4f3c"
HOME = "6c1f4b1a-0d53-4d55-8a43-7c1d0a3f5e21"
OTHER_HOME = "b2a9e0c4-1f7d-4c36-9a58-3d0e6f1c7b45"
REPOSITORY = "b7e2a1d4-93f0-4b6e-8a11-2f5c9d7e3061"
REQUEST = "0b8f6a52-7d1e-4f3c-b9a4-51c2e8d7f603"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
HELLO = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
AT = "2026-03-14T09:26:53.589793Z"


S = TypeVar("S", HomeKey, Checkpoint)


def _signed(record: S) -> S:
    """Return a record with the signature of the example's key."""
    signature = keys.sign(_PRIVATE, signed_part(record.to_bytes()), "the example")
    return replace(record, signature=keys.to_base64(signature))


def _stored(path: str, sha256: str, size: int, key: str) -> StoredFile:
    return StoredFile(path, sha256, size, f"{RUN}/{UPLOAD}/{key}")


MODEL = Artifact.of_file(_stored("model.onnx", HELLO, 5, "model.onnx"))
TOKENIZER = Artifact.of_folder(
    "tokenizer",
    [
        _stored("vocab.txt", HELLO, 5, "tokenizer/vocab.txt"),
        _stored("added tokens.json", EMPTY, 0, "tokenizer/added%20tokens.json"),
    ],
)
OWNER = registration_owner("churn", RUN, "model.onnx", HELLO, None)

EXAMPLES: dict[str, Record] = {
    "repository": RepositoryRecord(REPOSITORY, AT, "ada", NEEDS),
    "revision": Revision(
        owner=REQUEST,
        run=RUN,
        revision=1,
        experiment="churn",
        artifacts=(MODEL, TOKENIZER),
        refused=(Refused("latest", "it is a symbolic link"),),
        formats=(
            FileFormat(
                "model.onnx",
                "onnx",
                runs_code=False,
                summary={"opset": "17", "inputs": "x: float32[?, 4]", "parameters": 33},
                warnings=(),
            ),
        ),
        upload=UPLOAD,
        home=HOME,
        host="trainer-1",
        committed_by="ada",
        committed_at=AT,
        metadata=Metadata(
            params={"depth": 6, "learning_rate": "0.05", "shuffle": True},
            metrics={"auc": "0.912", "loss": "1e-05"},
            directions={"auc": "max", "loss": "min"},
            tags={"team": "retention"},
            datasets=(Dataset("train", HELLO),),
            parent="9d0f3c52-2b61-4a0e-8c77-5e1a6b3d9f04",
            code=Code("8f3a1d2c4b5e6f708192a3b4c5d6e7f801234567", dirty=False, branch="main"),
            environment=Environment(
                host="trainer-1",
                user="ada",
                python="3.11.9",
                platform="linux-x86_64",
                packages={"scikit-learn": "1.7.2"},
            ),
        ),
    ),
    "version": Version(
        owner=OWNER,
        experiment="churn",
        version=1,
        run=RUN,
        revision=1,
        artifact="model.onnx",
        sha256=HELLO,
        size=5,
        description="first that beats the baseline",
        home=HOME,
        host="trainer-1",
        registered_by="ada",
        registered_at=AT,
    ),
    "vacant-version": VacantVersion(
        owner=vacant_owner("churn", 2),
        experiment="churn",
        version=2,
        reason="it was deleted at MLflow",
        home=HOME,
        host="trainer-1",
        left_by="ada",
        left_at=AT,
        origin=Origin("mlflow", "sqlite:///srv/mlflow.db", "churn/2", "ada", AT),
    ),
    "bundle": Bundle(
        repository=REPOSITORY,
        exported_by="ada",
        exported_at=AT,
        members=(
            Member("records/1.json", 642, OWNER),
            Member("records/2.json", 1877, EMPTY),
            Member(f"bytes/{HELLO}", 5, HELLO),
        ),
    ),
    "registration": Registration(
        owner=OWNER,
        experiment="churn",
        run=RUN,
        artifact="model.onnx",
        sha256=HELLO,
        nonce=None,
        starts_at=1,
        claimed_by="ada",
        claimed_at=AT,
    ),
    "registration-done": RegistrationDone(OWNER, "churn", 1),
    "alias-move": AliasMove(
        owner=REQUEST,
        experiment="churn",
        alias="champion",
        move=2,
        version=1,
        sha256=HELLO,
        before=2,
        reason="the newer one was too slow",
        home=HOME,
        host="trainer-1",
        moved_by="ada",
        moved_at=AT,
    ),
    "retirement": Retirement(
        owner=REQUEST,
        experiment="churn",
        version=1,
        retirement=1,
        retired=True,
        sha256=HELLO,
        reason="trained on the wrong data",
        home=HOME,
        host="trainer-1",
        retired_by="ada",
        retired_at=AT,
    ),
    "collection": Collection(
        owner=REQUEST,
        run=RUN,
        collection=1,
        state="marked",
        home=HOME,
        host="trainer-1",
        recorded_by="ada",
        recorded_at=AT,
        parts=(LetGo(1, "model.onnx", "churn/1 was retired"),),
    ),
    "target": Target(
        owner=REQUEST,
        target="production",
        change=1,
        url="s3://serving/models",
        production=True,
        require_alias="champion",
        require_verified=False,
        confirm=False,
        keep=3,
        reason="",
        home=HOME,
        host="trainer-1",
        changed_by="ada",
        changed_at=AT,
    ),
    "deployment": Deployment(
        owner=REQUEST,
        experiment="churn",
        target="production",
        deployment=3,
        version=1,
        sha256=HELLO,
        before=2,
        back=None,
        rolled_back=True,
        change=1,
        url="s3://serving/models",
        reason="wrong units",
        home=HOME,
        host="trainer-1",
        deployed_by="ada",
        deployed_at=AT,
        kept=(KeptCopy(1, COPY), KeptCopy(2, "churn/2/20260314T091500Z-51c2e8d7f6030b8f")),
        let_go=(CopyLetGo(3, "churn/3/20260314T090300Z-a1b2c3d4e5f60718", AT),),
    ),
    "current": Current(
        repository=REPOSITORY,
        target="production",
        experiment="churn",
        deployment=3,
        version=1,
        copy=COPY,
        artifact="model.onnx",
        type="file",
        sha256=HELLO,
        size=5,
        deployed_at=AT,
        files=(StoredFile("model.onnx", HELLO, 5, f"{COPY}/model.onnx"),),
    ),
    "target-marker": TargetMarker(REPOSITORY, "production", "ada", AT),
    "deploying": Deploying(
        request=REQUEST,
        experiment="churn",
        target="production",
        url="s3://serving/models",
        version=1,
        copy=COPY,
        starts_at=3,
        user="ada",
        begun_at=AT,
        settled_at=None,
    ),
    "deployment-counter": DeploymentCounter("churn", "production", 3, REPOSITORY),
    "home": HomeRecord(
        HOME, REPOSITORY, "5d41402abc4b2a76b9719d911017c592", 1048577, AT, "ada", NEEDS
    ),
    "probe": Probe(
        url="s3://models/team",
        endpoint=None,
        holds=True,
        single_writer=False,
        racers=16,
        rounds=5,
        most_winners=1,
        probed_at=AT,
        probed_with="modeldrop 0.1.0",
    ),
    "key": _signed(
        HomeKey(
            home=HOME,
            host="trainer-1",
            key=1,
            public=_PUBLIC,
            models=_MODELS,
            before=None,
            made_by="ada",
            made_at=AT,
            signature="",
            endorsement=None,
        )
    ),
    "checkpoint": _signed(
        Checkpoint(
            home=HOME,
            host="trainer-1",
            checkpoint=2,
            key=1,
            seq=7,
            sha256=HELLO,
            before=EMPTY,
            made_at=AT,
            signature="",
            witnessed=(Witnessed(OTHER_HOME, OWNER, 12, EMPTY),),
        )
    ),
    "signature": ModelSignature(
        experiment="churn",
        version=1,
        sha256=HELLO,
        bundle='{"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json", "...": "..."}',
        home=HOME,
        host="trainer-1",
        added_by="ada",
        added_at=AT,
    ),
    "sealed": Sealed(
        home=HOME,
        key=1,
        checkpoint=2,
        sha256=EMPTY,
        seq=7,
        line=HELLO,
        witnessed={OTHER_HOME: 12},
    ),
    "trusted": Trusted(
        home=OTHER_HOME,
        host="trainer-2",
        key=1,
        public=_PUBLIC,
        checkpoint=12,
        sha256=EMPTY,
        seq=31,
        line=HELLO,
        pinned_by="first use",
        pinned_at=AT,
    ),
    "writer": WriterRecord(HOME, "trainer-1", "ada", AT),
    "head": Head(seq=7, start=4096, offset=4871, sha256=HELLO),
    "pushed": PushedRecord(HOME, 7, 4096, 4871, HELLO),
    "fetched": FetchedRecord(
        home=OTHER_HOME,
        host="trainer-2",
        seq=7,
        start=4096,
        offset=4871,
        sha256=HELLO,
        segment=5,
        begins=2600,
    ),
    "counter": Counter("churn", 1, REPOSITORY),
    "move-counter": MoveCounter("churn", "champion", 2, REPOSITORY),
    "errand": VersionWanted(
        request=REQUEST,
        user="ada",
        experiment="churn",
        run=RUN,
        revision=1,
        artifact="model.onnx",
        sha256=HELLO,
        size=5,
        nonce=None,
        by="ada",
        description="",
        until=86_400,
    ),
    "intent": Intent(
        request=REQUEST,
        sequence=".modeldrop/experiments/churn/versions",
        owner=OWNER,
        starts_at=1,
        journal_seq=6,
        journal_offset=4096,
        user="ada",
        begun_at=AT,
    ),
}


def entry_line() -> bytes:
    """Return the example of a journal's line."""
    entry = NewEntry(
        kind="registered",
        about=("churn/1", f"run:{RUN}~1"),
        request=REQUEST,
        user="ada",
        details={
            "experiment": "churn",
            "version": 1,
            "run": RUN,
            "revision": 1,
            "artifact": "model.onnx",
            "sha256": HELLO,
            "size": 5,
            "registered_by": "ada",
            "description": "first that beats the baseline",
        },
    )
    # A page that is checked for being up to date can't hold the time of its making.
    with mock.patch.object(lines, "now", return_value=AT):
        return lines.write(entry, after=Head(6, 3200, 4096, EMPTY), home=HOME, host="trainer-1")


def shown(kind: str) -> str:
    """Return an example as docs/format.md shows it."""
    data = entry_line() if kind == "entry" else EXAMPLES[kind].to_bytes()
    return f"```json\n{data.decode().rstrip()}\n```\n"
