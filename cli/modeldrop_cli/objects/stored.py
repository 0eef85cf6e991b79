"""What is printed with `--json` of what is stored: runs, versions and their files."""

from __future__ import annotations

from typing import Annotated, TypedDict

from modeldrop_cli.objects.dropping import RefusedObject


class FileObject(TypedDict):
    """A file of an artifact."""

    path: Annotated[str, "relative to the artifact; a file artifact's own name"]
    sha256: Annotated[str, "digest of its bytes"]
    size: Annotated[int, "its size"]


class OriginObject(TypedDict):
    """Where something that was imported came from."""

    source: Annotated[str, "mlflow, mlopsnet or bundle"]
    location: Annotated[str, "the folder, file or URL that was read, without secrets"]
    name: Annotated[str, "what it is called there"]
    imported_by: Annotated[str, "who imported it"]
    imported_at: Annotated[str, "when"]


class FormatObject(TypedDict):
    """What a file is, as its header says."""

    path: Annotated[str, "of a run, relative to it; of a version, relative to the artifact"]
    kind: Annotated[str, "onnx, safetensors …: docs/formats.md lists them"]
    runs_code: Annotated[bool, "whether code runs when it is loaded, as far as can be seen"]
    summary: Annotated[dict[str, str | int], "what else it says of itself, by kind"]
    warnings: Annotated[list[str], "what a person should know"]


class ArtifactSummaryObject(TypedDict):
    """An artifact of a run, without its files."""

    artifact: Annotated[str, "its name in the run"]
    type: Annotated[str, "file or folder"]
    sha256: Annotated[str, "digest of its bytes; for a folder, of its files' digests and paths"]
    size: Annotated[int, "the sum of its files' sizes"]


class ArtifactObject(ArtifactSummaryObject):
    """An artifact of a run, with its files."""

    files: Annotated[list[FileObject], "its files"]


class RunObject(TypedDict):
    """`runs`: a run by its last revision, one on each line."""

    run: Annotated[str, "GUID of the run"]
    revision: Annotated[int, "number of its last revision"]
    experiment: Annotated[str | None, "the experiment that it names, if any"]
    size: Annotated[int, "the sum of its artifacts' sizes"]
    artifacts: Annotated[list[ArtifactSummaryObject], "what it holds"]
    host: Annotated[str, "the host that stored it"]
    committed_by: Annotated[str, "the user that stored it"]
    committed_at: Annotated[str, "when"]
    params: Annotated[dict[str, str | int | bool], "its parameters by name"]
    metrics: Annotated[dict[str, str], "its metrics by name; a number as its decimal text"]
    tags: Annotated[dict[str, str], "its tags by name"]
    formats: Annotated[list[str], "which kinds of files it has, as far as they were recognised"]


class DatasetObject(TypedDict):
    """A data set that a run was trained or measured with."""

    name: Annotated[str, "its name"]
    sha256: Annotated[str, "digest of its bytes; for a folder, of its files' digests and paths"]


class CodeObject(TypedDict):
    """The code that ran."""

    commit: Annotated[str, "the git commit"]
    dirty: Annotated[bool | None, "whether files differed from it; null if nobody knows"]
    branch: Annotated[str | None, "the branch; null if there was none"]


class EnvironmentObject(TypedDict):
    """What the code ran in, as far as it says so."""

    host: Annotated[str | None, "name of the machine"]
    user: Annotated[str | None, "name of the user"]
    python: Annotated[str | None, "version of Python"]
    platform: Annotated[str | None, "system and processor, such as linux-x86_64"]
    packages: Annotated[dict[str, str], "versions of packages by name"]


class MetadataObject(TypedDict):
    """What a run was, as far as it says so; empty or null where it doesn't."""

    params: Annotated[
        dict[str, str | int | bool], "parameters by name; a number that isn't whole is a string"
    ]
    metrics: Annotated[dict[str, str], "metrics by name: the shortest decimal, nan, inf or -inf"]
    directions: Annotated[dict[str, str], "min or max, by the name of a metric"]
    tags: Annotated[dict[str, str], "tags by name"]
    datasets: Annotated[list[DatasetObject], "its data sets, by name"]
    parent: Annotated[str | None, "GUID of the run that it went on from"]
    code: Annotated[CodeObject | None, "the code that ran"]
    environment: Annotated[EnvironmentObject | None, "what the code ran in"]


class RevisionObject(TypedDict):
    """`show` of a run: one revision with all its files."""

    run: Annotated[str, "GUID of the run"]
    revision: Annotated[int, "number of the revision"]
    experiment: Annotated[str | None, "the experiment that it names, if any"]
    size: Annotated[int, "the sum of its artifacts' sizes"]
    artifacts: Annotated[list[ArtifactObject], "what it holds"]
    refused: Annotated[list[RefusedObject], "what was dropped and isn't stored"]
    formats: Annotated[list[FormatObject], "what its files are, of those that were recognised"]
    host: Annotated[str, "the host that stored it"]
    committed_by: Annotated[str, "the user that stored it"]
    committed_at: Annotated[str, "when"]
    metadata: Annotated[MetadataObject, "what the run was"]
    origin: Annotated[OriginObject | None, "where it was imported from; null if it wasn't"]


class VersionSummaryObject(TypedDict):
    """A version, without its files."""

    experiment: Annotated[str, "the experiment"]
    version: Annotated[int, "its number: 1, 2, 3 …"]
    run: Annotated[str, "GUID of the run that it came from"]
    revision: Annotated[int, "the revision of the run"]
    artifact: Annotated[str, "the artifact's name; `.` is the whole run"]
    sha256: Annotated[str, "digest of its bytes; for a folder, of its files' digests and paths"]
    size: Annotated[int, "its size"]
    host: Annotated[str, "the host that registered it"]
    registered_by: Annotated[str, "by whom"]
    registered_at: Annotated[str, "when"]
    description: Annotated[str, "what was said of it; may be empty"]
    aliases: Annotated[list[str], "aliases that are on it"]


class RetirementObject(TypedDict):
    """That a version is retired."""

    reason: Annotated[str, "why; may be empty"]
    host: Annotated[str, "the host that retired it"]
    retired_by: Annotated[str, "by whom"]
    retired_at: Annotated[str, "when"]


class VersionObject(VersionSummaryObject):
    """`show` of a version."""

    files: Annotated[list[FileObject], "its files"]
    formats: Annotated[list[FormatObject], "what its files are, of those that were recognised"]
    origin: Annotated[OriginObject | None, "where it was imported from; null if it wasn't"]
    targets: Annotated[list[str], "deployment targets where it is live"]
    retired: Annotated[RetirementObject | None, "that it is retired; null if it isn't"]
    collected_at: Annotated[str | None, "when its bytes were let go; null if they weren't"]
    metadata: Annotated[MetadataObject, "what its run was, also if that came later"]


class RegisteredObject(VersionObject):
    """`register`: the version that the artifact has."""

    created: Annotated[bool, "whether it was registered just now; false if it had been before"]


class RetiredObject(RetirementObject):
    """`retire`: what is said of the version now."""

    experiment: Annotated[str, "the experiment"]
    version: Annotated[int, "the version's number"]
    retired: Annotated[bool, "whether it is retired now"]
    changed: Annotated[bool, "whether that was said just now; false if it was so already"]


class CopyObject(TypedDict):
    """`pull` and `path`: where the copy is."""

    reference: Annotated[str, "the version, or the run's revision and artifact"]
    path: Annotated[str, "path of the verified copy"]
    signatures: Annotated[list[str], "with --signature: paths of the signatures' files"]


class TensorObject(TypedDict):
    """A tensor in a file."""

    name: Annotated[str, "its name; may be empty"]
    dtype: Annotated[str, "its type, as the format spells it"]
    shape: Annotated[list[int], "its shape"]


class InspectedObject(FormatObject):
    """A file that was looked at."""

    tensors: Annotated[list[TensorObject], "its tensors; empty without `--tensors`"]


class InspectObject(TypedDict):
    """`inspect`: what the files are, of those that were recognised."""

    what: Annotated[str, "the path, or the version, or the run's revision and artifact"]
    files: Annotated[list[InspectedObject], "each of them"]
