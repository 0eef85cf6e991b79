"""What `--json` prints: each object with its fields, their types and meanings.

docs/json.md is generated from these classes, mypy holds the commands against them, and tests hold
real output against them. Times are UTC in RFC 3339, sizes are in bytes, digests are bare
lower-case hex. A field may be added; none changes its meaning or goes.
"""

from __future__ import annotations

from typing import Annotated, TypedDict

# The second part of each `Annotated` is the field's meaning in docs/json.md.


class FileObject(TypedDict):
    """A file of an artifact."""

    path: Annotated[str, "relative to the artifact; a file artifact's own name"]
    sha256: Annotated[str, "digest of its bytes"]
    size: Annotated[int, "its size"]


class RefusedObject(TypedDict):
    """An entry that isn't stored."""

    path: Annotated[str, "relative to the run, or to staging; odd characters are escaped"]
    reason: Annotated[str, "why, in words"]


class FindingObject(TypedDict):
    """Something that `verify` found damaged or missing."""

    kind: Annotated[
        str,
        "journal, home, revision, version, alias, deployment, target, retirement, collection or "
        "file",
    ]
    where: Annotated[str, "the record or file, by its reference; in the journal, the byte offset"]
    what: Annotated[str, "what is wrong with it, in words"]


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


class InitObject(TypedDict):
    """`init`: the home that is there now."""

    home: Annotated[str, "path of the home"]
    created: Annotated[bool, "whether it was made just now"]
    backend: Annotated[str, "URL of the backend"]
    staging: Annotated[str, "path of the staging folder"]
    repository: Annotated[str, "id of the repository at the backend"]
    create_if_absent_holds: Annotated[bool, "whether racing writers had one winner"]
    single_writer: Annotated[bool, "whether this home alone may write to the backend"]


class NewRunObject(TypedDict):
    """`run new`: the run that was begun."""

    run: Annotated[str, "GUID of the run"]
    folder: Annotated[str, "path of its staging folder"]


class DropObject(TypedDict):
    """`drop`: the run that the files went into."""

    run: Annotated[str, "GUID of the run"]
    folder: Annotated[str, "path of its staging folder"]
    revision: Annotated[int | None, "the revision that holds them; null without `--wait`"]


class RunStatusObject(TypedDict):
    """A run in staging, as `status` and `scan` see it."""

    run: Annotated[str, "GUID of the run"]
    folder: Annotated[str, "path of its staging folder"]
    state: Annotated[
        str,
        "open, settling, uploading, verifying, committed, kept, moved, deleted, blocked, parked "
        "or ignored",
    ]
    reason: Annotated[str, "why it is in this state; may be empty"]
    since: Annotated[str, "when it came into this state"]
    next_try_at: Annotated[str | None, "when it is tried again, if it is blocked"]
    revision: Annotated[int | None, "its last revision that is stored; null if there is none"]
    sent: Annotated[int, "how many bytes are sent"]
    size: Annotated[int, "how many bytes it has"]
    rate: Annotated[int, "bytes of it that are being sent in a second; 0 if none are"]
    seconds_left: Annotated[int | None, "what the rest takes at this rate; null at rate 0"]
    refused: Annotated[list[RefusedObject], "what isn't stored, or why it isn't registered"]


class ScanObject(TypedDict):
    """`scan --once`: what it looked at."""

    runs: Annotated[list[RunStatusObject], "each run with the state that it has now"]
    junk: Annotated[list[RefusedObject], "what else is in staging"]


class ServiceObject(TypedDict):
    """The service of this home."""

    running: Annotated[bool, "whether it runs now"]
    pid: Annotated[int | None, "its process id"]
    started_at: Annotated[str | None, "since when it runs"]
    at: Annotated[str | None, "when it wrote its status last"]
    watcher: Annotated[str, "how it learns of changes; `none`: it scans"]
    overflows: Annotated[int, "how many times events were lost; each time all was scanned"]
    rebuilds: Annotated[int, "how many times its watch was built anew"]
    backend: Annotated[str, "why it waits for the backend; empty while that answers"]
    backend_since: Annotated[str | None, "since when it waits for the backend"]
    backend_next_try_at: Annotated[str | None, "when it tries the backend next"]
    queued: Annotated[int, "how many runs are complete and wait for their turn"]


class StatusObject(TypedDict):
    """`status`: the service, and what isn't stored yet; with `--watch` one on each line."""

    home: Annotated[str, "path of the home"]
    backend: Annotated[str, "URL of the backend"]
    staging: Annotated[str, "path of the staging folder"]
    service: Annotated[ServiceObject, "the service of this home"]
    committed: Annotated[int, "how many runs in staging are stored"]
    counts: Annotated[dict[str, int], "how many are in each state; states of none are left out"]
    runs: Annotated[list[RunStatusObject], "those that aren't, or not whole; 1000 at most"]
    junk: Annotated[list[RefusedObject], "what else is in staging"]


class AskedRunObject(TypedDict):
    """A run in staging of which something is asked."""

    run: Annotated[str, "GUID of the run"]
    state: Annotated[str | None, "its state before; null if it is stored, or too new to be known"]
    reason: Annotated[str, "why it was in this state; may be empty"]


class AskedObject(TypedDict):
    """`retry` and `ignore`: what the service is asked to do."""

    action: Annotated[str, "retry or ignore"]
    running: Annotated[bool, "whether a service runs; otherwise the next start or scan does it"]
    runs: Annotated[list[AskedRunObject], "of which runs"]


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


class FoundVersionObject(VersionSummaryObject):
    """A version with what is known of its run."""

    targets: Annotated[list[str], "deployment targets where it is live"]
    retired: Annotated[bool, "whether it is retired"]
    params: Annotated[dict[str, str | int | bool], "parameters of its run by name"]
    metrics: Annotated[dict[str, str], "metrics by name; a number as its decimal text"]
    tags: Annotated[dict[str, str], "tags by name"]
    formats: Annotated[list[str], "which kinds of files it has, as far as they were recognised"]


class ExperimentsObject(TypedDict):
    """`list`: every experiment by its newest version."""

    experiments: Annotated[list[FoundVersionObject], "the newest version of each"]


class VersionsObject(TypedDict):
    """`list EXPERIMENT`: its versions, newest first."""

    versions: Annotated[list[FoundVersionObject], "its versions"]


class SearchObject(TypedDict):
    """`search`: the versions that the query holds for."""

    query: Annotated[str, "the query"]
    as_of: Annotated[
        str | None, "up to when it is complete for what other hosts did; null if nobody asked them"
    ]
    versions: Annotated[list[FoundVersionObject], "by name and the newest first, unless sorted"]


class SearchRunsObject(TypedDict):
    """`search --runs`: the runs that the query holds for."""

    query: Annotated[str, "the query"]
    as_of: Annotated[
        str | None, "up to when it is complete for what other hosts did; null if nobody asked them"
    ]
    runs: Annotated[list[RunObject], "the newest first, unless sorted"]


class BestVersionObject(FoundVersionObject):
    """A version with its value of the metric that is asked for."""

    value: Annotated[str, "the value, a number as its decimal text"]


class BestObject(TypedDict):
    """`best`: the best versions of an experiment by a metric."""

    experiment: Annotated[str, "the experiment"]
    metric: Annotated[str, "the metric"]
    direction: Annotated[str, "max: the largest is the best; or min"]
    declared: Annotated[bool, "whether its runs declare that; false if `--max` or `--min` said so"]
    versions: Annotated[list[BestVersionObject], "the best one first"]
    passed_over: Annotated[list[BestVersionObject], "retired ones that come before the last"]


class PointObject(TypedDict):
    """A version with its value of the metric that is drawn."""

    version: Annotated[int, "its number"]
    value: Annotated[str, "the value, a number as its decimal text"]
    run: Annotated[str, "GUID of the run that it came from"]
    registered_at: Annotated[str, "when it was registered"]
    retired: Annotated[bool, "whether it is retired"]


class PlotObject(TypedDict):
    """`plot`: a metric over the versions of an experiment."""

    experiment: Annotated[str, "the experiment"]
    metric: Annotated[str, "the metric"]
    direction: Annotated[str | None, "max or min, as its runs declare; null if none does"]
    points: Annotated[list[PointObject], "the versions that have it, the oldest first"]
    file: Annotated[str | None, "path of the picture; null if none was asked for"]


class ChangeObject(TypedDict):
    """Something that is said of one side otherwise than of the other."""

    name: Annotated[str, "what: `metrics.auc`, `params.depth`, `code.commit` …"]
    a: Annotated[str | None, "of the first; null if it has none"]
    b: Annotated[str | None, "of the second; null if it has none"]


class BytesObject(TypedDict):
    """A file by its bytes."""

    sha256: Annotated[str, "digest of its bytes"]
    size: Annotated[int, "its size"]


class FileChangeObject(TypedDict):
    """A file that isn't the same on both sides."""

    path: Annotated[str, "relative to the artifact, or the run; of two single files the second's"]
    change: Annotated[str, "added, removed or changed"]
    a: Annotated[BytesObject | None, "in the first; null if it was added"]
    b: Annotated[BytesObject | None, "in the second; null if it was removed"]


class TensorFormObject(TypedDict):
    """A tensor's form."""

    dtype: Annotated[str, "its type, as the file's format spells it"]
    shape: Annotated[list[int], "its dimensions"]


class TensorChangeObject(TypedDict):
    """A tensor that isn't of the same form on both sides."""

    path: Annotated[str, "the file that it is in"]
    tensor: Annotated[str, "its name"]
    change: Annotated[str, "added, removed or changed"]
    a: Annotated[TensorFormObject | None, "in the first; null if it was added"]
    b: Annotated[TensorFormObject | None, "in the second; null if it was removed"]


class DiffObject(TypedDict):
    """`diff`: how two versions, or two runs, differ."""

    a: Annotated[str, "the first, by its full reference"]
    b: Annotated[str, "the second"]
    same_bytes: Annotated[bool, "whether both have the same files with the same bytes"]
    changes: Annotated[list[ChangeObject], "what is said of them"]
    files: Annotated[list[FileChangeObject], "by path"]
    tensors: Annotated[list[TensorChangeObject], "by file and name; values aren't compared"]
    unread: Annotated[list[RefusedObject], "files whose tensors could not be read, and why"]


class AliasMoveObject(TypedDict):
    """A move of an alias: where it was put, by whom, when and why."""

    experiment: Annotated[str, "the experiment"]
    alias: Annotated[str, "the alias, without its experiment"]
    move: Annotated[int, "the number of the move: 1, 2, 3 …"]
    version: Annotated[int | None, "the version that it was put on; null if it was removed"]
    sha256: Annotated[str | None, "digest of that version's bytes; null if it was removed"]
    before: Annotated[int | None, "the version that it was on until then; null if on none"]
    reason: Annotated[str, "why; may be empty"]
    host: Annotated[str, "the host that moved it"]
    moved_by: Annotated[str, "by whom"]
    moved_at: Annotated[str, "when"]


class PromotedObject(AliasMoveObject):
    """`promote` and `alias rm`: the move that says where the alias is now."""

    moved: Annotated[bool, "whether it was moved just now; false if it was there already"]


class RetiredObject(RetirementObject):
    """`retire`: what is said of the version now."""

    experiment: Annotated[str, "the experiment"]
    version: Annotated[int, "the version's number"]
    retired: Annotated[bool, "whether it is retired now"]
    changed: Annotated[bool, "whether that was said just now; false if it was so already"]


class AliasesObject(TypedDict):
    """`alias list`: the move that put each alias where it is."""

    aliases: Annotated[list[AliasMoveObject], "by experiment and alias; removed ones are left out"]


class AliasHistoryObject(TypedDict):
    """`alias history`: all moves of an alias, newest first."""

    moves: Annotated[list[AliasMoveObject], "its moves"]


class TargetObject(TypedDict):
    """A deployment target: where it is, and what has to hold before a deployment."""

    target: Annotated[str, "its name"]
    url: Annotated[str | None, "where it is; null if it was removed"]
    production: Annotated[bool, "whether it is marked as production"]
    require_alias: Annotated[str | None, "the alias that a version has to have, if any"]
    require_verified: Annotated[bool, "whether every stored byte is read first"]
    confirm: Annotated[bool, "whether each deployment has to be confirmed"]
    keep: Annotated[int, "how many copies of each experiment stay there"]
    reason: Annotated[str, "why it was set so; may be empty"]
    host: Annotated[str, "the host that set it"]
    changed_by: Annotated[str, "by whom"]
    changed_at: Annotated[str, "when"]


class TargetSetObject(TargetObject):
    """`target add` and `target rm`: what the target is now."""

    changed: Annotated[bool, "whether it was changed just now; false if it was so already"]


class TargetsObject(TypedDict):
    """`target list`: what each target is."""

    targets: Annotated[list[TargetObject], "by name; removed ones are left out"]


class DeploymentObject(TypedDict):
    """A deployment: what became live where, by whom, when and why."""

    experiment: Annotated[str, "the experiment"]
    target: Annotated[str, "the target"]
    deployment: Annotated[int, "the number of the deployment there: 1, 2, 3 …"]
    version: Annotated[int, "the version that became live"]
    sha256: Annotated[str, "digest of that version's bytes"]
    before: Annotated[int | None, "the version that was live until then; null if none was"]
    rolled_back: Annotated[bool, "whether it was a rollback"]
    url: Annotated[str, "where the target was"]
    copy: Annotated[str, "folder of its copy, below that URL"]
    reason: Annotated[str, "why; may be empty"]
    host: Annotated[str, "the host that deployed it"]
    deployed_by: Annotated[str, "by whom"]
    deployed_at: Annotated[str, "when"]


class DeployedObject(DeploymentObject):
    """`deploy` and `rollback`: the deployment that is live now."""

    deployed: Annotated[bool, "whether it was made just now; false if that version was live"]
    copied: Annotated[bool, "whether bytes were copied; false if a kept copy is used again"]


class DeploymentsObject(TypedDict):
    """`deployments`: what is live at each target; of EXPERIMENT@TARGET, all there ever was."""

    deployments: Annotated[
        list[DeploymentObject], "by experiment and target; of one target, newest first"
    ]


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
        "collection-marked, collection-kept or collected",
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


class CloneObject(TypedDict):
    """`clone`: the home that was made."""

    home: Annotated[str, "path of the home"]
    backend: Annotated[str, "URL of the backend"]
    staging: Annotated[str, "path of the staging folder"]
    repository: Annotated[str, "id of the repository at the backend"]
    journals: Annotated[list[FetchedJournalObject], "the journals of all other homes"]


class RebuildObject(TypedDict):
    """`rebuild`: what the journal was made of again."""

    source: Annotated[str | None, "backend, home, or nothing; null if it is whole"]
    entries: Annotated[int, "how many entries were taken from there"]
    recovered: Annotated[int, "how many were made again from records at the backend"]
    lost: Annotated[int | None, "how many there were beyond those taken; null if nobody knows"]
    seq: Annotated[int, "the number of the last entry now"]
    troubles: Annotated[list[str], "what could not be read at the backend"]


class CopyObject(TypedDict):
    """`pull` and `path`: where the copy is."""

    reference: Annotated[str, "the version, or the run's revision and artifact"]
    path: Annotated[str, "path of the verified copy"]


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


class VerifyObject(TypedDict):
    """`verify`: what was checked, and what was found."""

    ok: Annotated[bool, "whether nothing was found"]
    deep: Annotated[bool, "whether every byte was read"]
    checked: Annotated[dict[str, int], "how many of what were checked"]
    findings: Annotated[list[FindingObject], "everything that was found"]


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


class FailureObject(TypedDict):
    """What went wrong."""

    kind: Annotated[str, "name of its class in `modeldrop.errors`"]
    message: Annotated[str, "what failed, on what, and why"]
    hint: Annotated[str, "what to do next; may be empty"]
    exit_code: Annotated[int, "the program's exit code"]
    detail: Annotated[dict[str, object], "the same facts for programs, by kind"]


class ErrorObject(TypedDict):
    """Any command that fails, on stderr, if it was given `--json`."""

    error: Annotated[FailureObject, "what went wrong"]


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


# In the order of docs/json.md: what each command prints.
PRINTED = (
    InitObject,
    NewRunObject,
    DropObject,
    ScanObject,
    StatusObject,
    AskedObject,
    RunObject,
    ExperimentsObject,
    VersionsObject,
    SearchObject,
    SearchRunsObject,
    BestObject,
    PlotObject,
    DiffObject,
    VersionObject,
    RevisionObject,
    EntryObject,
    RegisteredObject,
    PromotedObject,
    AliasesObject,
    AliasHistoryObject,
    RetiredObject,
    TargetSetObject,
    TargetsObject,
    DeployedObject,
    DeploymentsObject,
    CopyObject,
    InspectObject,
    PushObject,
    FetchObject,
    CloneObject,
    ImportObject,
    ExportObject,
    RebuildObject,
    VerifyObject,
    GcObject,
    PruneObject,
    CleanObject,
    DoctorObject,
    ErrorObject,
)
