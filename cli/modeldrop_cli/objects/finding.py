"""What is printed with `--json` by whoever lists, searches, compares and plots."""

from __future__ import annotations

from typing import Annotated, TypedDict

from modeldrop_cli.objects.dropping import RefusedObject
from modeldrop_cli.objects.stored import RunObject, VersionSummaryObject


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
