"""The options by which a run is described, and how its description is shown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from modeldrop.structs import Struct, field

if TYPE_CHECKING:
    from modeldrop.metadata import Metadata
    from modeldrop_cli.command import Decorated

# Digits of a digest or a commit by which people tell one from another.
_SHORT: Final = 12


class Said(Struct):
    """What the options of `run new` and `drop` say of a run."""

    values: dict[str, Any] = field(default_factory=dict)

    @property
    def register(self) -> bool:
        """Whether it is to be registered once it is stored."""
        return bool(self.values["register"])

    def metadata(self) -> Metadata:
        """Return it all, with what can be found out here unless that isn't wanted.

        Raises:
            UsageError: an option isn't what it has to be.
            NotFound: a data set's path leads nowhere.
        """
        from modeldrop.capture import captured  # noqa: PLC0415 - not for `--help`
        from modeldrop.statements import checked, scalar  # noqa: PLC0415 - the same

        values = self.values
        params = _pairs("--param", values["params"])
        found: dict[str, object] = {
            "params": {
                name: text if (value := scalar(text)) is None else value
                for name, text in params.items()
            },
            "metrics": _pairs("--metric", values["metrics"]),
            "directions": _pairs("--direction", values["directions"]),
            "tags": _pairs("--tag", values["tags"], bare=True),
            "datasets": _datasets(_pairs("--dataset", values["datasets"])),
            "parent": values["parent"],
        }
        if values["capture"]:
            found.update(captured(packages=values["packages"]))
        return checked(found)


def said_options(function: Decorated) -> Decorated:
    """Give a command the options that describe a run; what it gets for them is one `said`."""

    def take(ctx: click.Context, parameter: click.Parameter, value: object) -> None:
        ctx.params.setdefault("said", Said()).values[str(parameter.name)] = value

    def several(name: str, key: str, metavar: str, text: str) -> Any:  # noqa: ANN401 - a decorator
        return click.option(
            name, key, metavar=metavar, multiple=True, expose_value=False, callback=take, help=text
        )

    flags: dict[str, Any] = {"is_flag": True, "expose_value": False, "callback": take}
    for option in (
        click.option(
            "--capture/--no-capture",
            default=True,
            help="Note git commit and branch, host, user and Python's version; the default.",
            expose_value=False,
            callback=take,
        ),
        click.option("--packages", help="Note the packages of this Python, too.", **flags),
        click.option("--register", help="Register it once it is stored; needs -e.", **flags),
        click.option(
            "--parent",
            metavar="GUID",
            help="The run that this one went on from.",
            expose_value=False,
            callback=take,
        ),
        several("--dataset", "datasets", "NAME=PATH|SHA256", "A data set: hashed, or its digest."),
        several("--tag", "tags", "NAME[=TEXT]", "A tag of the run."),
        several("--direction", "directions", "METRIC=min|max", "Which way a metric is better."),
        several("--metric", "metrics", "NAME=NUMBER", "A metric of the run."),
        several("--param", "params", "NAME=VALUE", "A parameter of the run."),
    ):
        function = option(function)
    return function


def _pairs(option: str, texts: tuple[str, ...], *, bare: bool = False) -> dict[str, str]:
    from modeldrop.errors import UsageError  # noqa: PLC0415 - not for `--help`
    from modeldrop.names import printable  # noqa: PLC0415 - the same

    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not (equals or bare) or not name:
            # What is there may be a value without its name, and that is nobody's business.
            message = f"{option} has no name and value with `=` between them"
            raise UsageError(message, hint=f"write `{option} NAME=VALUE`")
        if name in found:
            message = f"{option} names {printable(name)!r} twice"
            raise UsageError(message, hint="say it once")
        found[name] = value
    return found


def _datasets(paths: Mapping[str, str]) -> dict[str, str]:
    from modeldrop.capture import digest_of_path  # noqa: PLC0415 - not for `--help`
    from modeldrop.statements import digest_of  # noqa: PLC0415 - the same

    return {
        name: digest_of(text) or digest_of_path(Path(text).expanduser())
        for name, text in paths.items()
    }


def metadata_fields(metadata: Metadata) -> dict[str, str]:
    """Return what `show` says of it; empty where it says nothing."""
    directions = metadata.directions
    metrics = {
        name: f"{value} ({directions[name]})" if name in directions else value
        for name, value in metadata.metrics.items()
    }
    code, environment = metadata.code, metadata.environment
    where: list[str] = []
    if environment is not None:
        by = f" by {environment.user}" if environment.user else ""
        where = [
            f"{environment.host or 'somewhere'}{by}",
            f"Python {environment.python}" if environment.python else "",
            environment.platform or "",
            f"{len(environment.packages)} packages" if environment.packages else "",
        ]
    return {
        "metrics": _listed(metrics),
        "params": _listed({name: _spelled(value) for name, value in metadata.params.items()}),
        "tags": ", ".join(
            f"{name}={value}" if value else name for name, value in sorted(metadata.tags.items())
        ),
        "data sets": _listed({each.name: each.sha256[:_SHORT] for each in metadata.datasets}),
        "parent": f"run:{metadata.parent}" if metadata.parent else "",
        "code": (
            f"{code.commit[:_SHORT]}{f' on {code.branch}' if code.branch else ''}"
            f"{', with changes that are not in it' if code.dirty else ''}"
            if code
            else ""
        ),
        "ran on": ", ".join(each for each in where if each),
    }


def _listed(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in sorted(values.items()))


def _spelled(value: str | int | bool) -> str:  # noqa: FBT001 - a value like the others
    return str(value).lower() if isinstance(value, bool) else str(value)
