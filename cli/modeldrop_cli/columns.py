"""Listings of versions and runs: which columns, in which order, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from modeldrop_cli.output import size, when

if TYPE_CHECKING:
    from modeldrop.finding import FoundRun, FoundVersion, Sort
    from modeldrop.finding.conditions import Unit
    from modeldrop.form import Fields
    from modeldrop.repository import Repository
    from modeldrop_cli.objects.finding import FoundVersionObject
    from modeldrop_cli.objects.stored import RunObject
    from modeldrop_cli.output import Output

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

_OF_VERSIONS: Final = "version,artifact,size,run,registered,by,aliases,description"
_OF_RUNS: Final = "run,revision,experiment,artifacts,size,stored,by"

# So many versions are named where there may be any number.
_FEW: Final = 10

_NUMBERS: Final = frozenset({"version", "revision", "size"})


def listing_options(function: Decorated) -> Decorated:
    """Give a command `--sort`, `--columns` and `-n`."""
    for option in (
        click.option("-n", "most", metavar="N", type=click.IntRange(min=1), help="Show N at most."),
        click.option(
            "--columns", metavar="NAMES", help="Show these columns: `version,metrics.auc,by`."
        ),
        click.option(
            "--sort",
            metavar="NAME",
            help="Sort by this: `metrics.auc`, or `-metrics.auc` for the largest first.",
        ),
    ):
        function = option(function)
    return function


def tell_reading(repository: Repository, output: Output) -> None:
    """Have it said on stderr where a listing reads so much that it takes a while."""
    repository.finding.reading = lambda count: output.say(
        f"Reading {count} records into the index. That is done once."
    )


def sort_of(text: str | None) -> Sort | None:
    """Return the sort that `--sort` asks for."""
    if text is None:
        return None
    from modeldrop.finding import Sort  # noqa: PLC0415 - not for `--help`

    return Sort.of(text)


def version_columns(text: str | None) -> list[str]:
    """Return the columns that `--columns` asks for, or the usual ones of versions.

    Raises:
        UsageError: one of them isn't a field that there is.
    """
    from modeldrop.finding.conditions import VERSIONS  # noqa: PLC0415 - not for `--help`

    return _columns(VERSIONS, _OF_VERSIONS if text is None else text)


def run_columns(text: str | None) -> list[str]:
    """Return the columns that `--columns` asks for, or the usual ones of runs.

    Raises:
        UsageError: one of them isn't a field that there is.
    """
    from modeldrop.finding.conditions import RUNS  # noqa: PLC0415 - not for `--help`

    return _columns(RUNS, _OF_RUNS if text is None else text)


def _columns(unit: Unit, text: str) -> list[str]:
    from modeldrop.errors import UsageError  # noqa: PLC0415 - not for `--help`
    from modeldrop.finding.conditions import canonical, refused  # noqa: PLC0415 - the same

    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        why = refused(unit, canonical(name))
        if why is not None:
            raise UsageError(why[0], hint=why[1])
    if not names:
        raise UsageError("no column is named", hint="write `--columns version,metrics.auc`")
    return names


def show_versions(found: Sequence[FoundVersion], names: Sequence[str], output: Output) -> None:
    """Print versions as a table with these columns, and say which of them are retired."""
    fields = _fields(names)
    _table(names, [[_of_version(each, name) for name in fields] for each in found], output)
    if "retired" not in fields:
        tell_retired(found, output)


def tell_retired(found: Sequence[FoundVersion], output: Output) -> None:
    """Say which of some versions are retired, if any are."""
    names = [each.reference for each in found if each.retired]
    if names:
        more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
        output.say(f"Retired: {', '.join(names[:_FEW])}{more}.")


def show_runs(found: Sequence[FoundRun], names: Sequence[str], output: Output) -> None:
    """Print runs as a table with these columns."""
    fields = _fields(names)
    _table(names, [[_of_run(each, name) for name in fields] for each in found], output)


def version_object(found: FoundVersion) -> FoundVersionObject:
    """Return a version as JSON."""
    metadata = found.metadata()
    return {
        "experiment": found.experiment,
        "version": found.version,
        "run": found.run,
        "revision": found.revision,
        "artifact": found.artifact,
        "sha256": found.sha256,
        "size": found.size,
        "host": found.host,
        "registered_by": found.registered_by,
        "registered_at": found.registered_at,
        "description": found.description,
        "aliases": list(found.aliases),
        "targets": list(found.targets),
        "retired": found.retired,
        "params": _map(metadata, "params"),
        "metrics": _map(metadata, "metrics"),
        "tags": _map(metadata, "tags"),
        "formats": found.formats(),
    }


def run_object(found: FoundRun) -> RunObject:
    """Return a run as JSON."""
    metadata = found.metadata()
    artifacts: list[Any] = found.artifacts()
    return {
        "run": found.run,
        "revision": found.revision,
        "experiment": found.experiment,
        "size": found.size,
        "artifacts": artifacts,
        "host": found.host,
        "committed_by": found.committed_by,
        "committed_at": found.committed_at,
        "params": _map(metadata, "params"),
        "metrics": _map(metadata, "metrics"),
        "tags": _map(metadata, "tags"),
        "formats": found.formats(),
    }


def _fields(names: Sequence[str]) -> list[str]:
    from modeldrop.finding.conditions import canonical  # noqa: PLC0415 - not for `--help`

    return [canonical(name) for name in names]


def _table(names: Sequence[str], rows: list[list[str]], output: Output) -> None:
    from modeldrop.names import printable  # noqa: PLC0415 - not for `--help`

    right = [
        name for name in names if name in _NUMBERS - {"version"} or name.startswith("metrics.")
    ]
    output.table([printable(name) for name in names], rows, right=right)


# Those that aren't the field of the same name, as text.
_VERSION_CELLS: Final[Mapping[str, Callable[[FoundVersion], str]]] = {
    "version": lambda found: found.reference,
    "size": lambda found: size(found.size),
    "run": lambda found: f"{found.run}~{found.revision}",
    "registered": lambda found: when(found.registered_at),
    "by": lambda found: f"{found.registered_by}@{found.host}",
    "alias": lambda found: ", ".join(found.aliases),
    "target": lambda found: ", ".join(found.targets),
    "retired": lambda found: _yes(found.retired),
    "format": lambda found: ", ".join(found.formats()),
    "runs_code": lambda found: _yes(found.runs_code()),
}
_RUN_CELLS: Final[Mapping[str, Callable[[FoundRun], str]]] = {
    "size": lambda found: size(found.size),
    "stored": lambda found: when(found.committed_at),
    "by": lambda found: f"{found.committed_by}@{found.host}",
    "artifact": lambda found: ", ".join(str(each["artifact"]) for each in found.artifacts()),
    "format": lambda found: ", ".join(found.formats()),
    "runs_code": lambda found: _yes(found.runs_code()),
}


def _of_version(found: FoundVersion, name: str) -> str:
    cell = _VERSION_CELLS.get(name)
    return _other(found, name) if cell is None else cell(found)


def _of_run(found: FoundRun, name: str) -> str:
    cell = _RUN_CELLS.get(name)
    return _other(found, name) if cell is None else cell(found)


def _other(found: FoundVersion | FoundRun, name: str) -> str:
    if name in {"experiment", "artifact", "revision", "host", "description", "sha256", "run"}:
        value = getattr(found, name)
        return "" if value is None else str(value)
    return _of_metadata(found.metadata(), name)


def _yes(is_so: bool) -> str:  # noqa: FBT001 - what is shown
    return "true" if is_so else ""


def _of_metadata(metadata: Fields, name: str) -> str:
    from modeldrop.finding import value  # noqa: PLC0415 - not for `--help`

    return value(metadata, "datasets" if name == "dataset" else name)


def _map(metadata: Fields, name: str) -> dict[str, Any]:
    found = metadata.get(name)
    return found if isinstance(found, dict) else {}
