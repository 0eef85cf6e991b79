"""What every command has: examples and exit codes in its help, `--json`, `-q`, and a home."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from modeldrop_cli.output import Output

if TYPE_CHECKING:
    from modeldrop.repository import Repository

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

# What each exit code says, whatever the command; `errors` gives each error its own.
EXITS: Final[Mapping[int, str]] = {
    0: "done",
    1: "another error",
    2: "a wrong call, setting or name",
    3: "some of it failed",
    10: "not found: the home, the run, the artifact, the version or the alias",
    11: "a conflict: it is there already with other content, or not where it was expected",
    12: "locked by another process, or the time ran out",
    20: "bytes are not what they were",
    30: "the backend failed",
    130: "interrupted",
}
# What can happen to any command, and goes without saying at each.
_ANY: Final = (1, 130)

FOREVER: Final = math.inf


class Command(click.Command):
    """A command whose help ends with examples and exit codes.

    `--wait` takes its seconds only as `--wait=S`: click would take what follows it, which is
    the file to drop.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - whatever click.Command takes
        examples: Sequence[tuple[str, str]] = (),
        exits: Mapping[int, str] | None = None,
        **kwargs: Any,  # noqa: ANN401 - the same
    ) -> None:
        """Take what `click.Command` takes, examples with what they do, and exit codes."""
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self.exits = {0: EXITS[0], 2: EXITS[2], **(exits or {})}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments, a bare `--wait` as one without a limit."""
        end = args.index("--") if "--" in args else len(args)
        whole = ["--wait=inf" if arg == "--wait" else arg for arg in args[:end]]
        return super().parse_args(ctx, [*whole, *args[end:]])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the examples and the exit codes."""
        with formatter.section("Examples"):
            for line, text in self.examples:
                # As it stands, however long: a wrapped line can't be pasted into a shell.
                formatter.write(f"{'':{formatter.current_indent}}$ {line}\n")
                formatter.indent()
                formatter.write_text(text)
                formatter.dedent()
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, text in sorted(self.exits.items())])


def exits(*codes: int, **more: str) -> dict[int, str]:
    """Return the exit codes of a command with what they say; `e3="…"` says it for this one."""
    found = {code: EXITS[code] for code in codes}
    found.update({int(name.removeprefix("e")): text for name, text in more.items()})
    return dict(sorted(found.items()))


def output_options(function: Decorated) -> Decorated:
    """Give a command `--json` and `-q`; what it gets for them is one `output`."""

    def take(ctx: click.Context, parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
        output = ctx.params.setdefault("output", Output())
        if value:
            setattr(output, "json" if parameter.name == "json" else "quiet", True)

    for names, text in (
        (("--json",), "Print JSON, as docs/json.md describes."),
        (("-q", "--quiet"), "Print ids only, one a line."),
    ):
        function = click.option(*names, is_flag=True, expose_value=False, callback=take, help=text)(
            function
        )
    return function


class _WaitOption(click.Option):
    """An option that takes its value only after `=`."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str]:  # noqa: ARG002 - click's signature
        return "--wait[=SECONDS]", self.help or ""


wait_option: Final = click.option(
    "--wait",
    cls=_WaitOption,
    type=click.FloatRange(min=0),
    is_flag=False,
    flag_value=FOREVER,
    help="Wait until it is stored, SECONDS at most. Without a running service, store it now.",
)


def experiment_option(text: str) -> Callable[[Decorated], Decorated]:
    """Return the option `-e EXPERIMENT`, which completes to the experiments that are known."""
    return click.option(
        "-e", "--experiment", metavar="EXPERIMENT", shell_complete=complete_experiments, help=text
    )


def home_option() -> str | None:
    """Return what `--home` says, if it was given."""
    home: str | None = click.get_current_context().find_root().params.get("home")
    return home


def open_repository(*, lasting: bool = False) -> Repository:
    """Return the repository of the home that `--home`, the environment or the folder names.

    Where there is none, and MODELDROP_BACKEND names a backend, it is one of this command's own,
    unless what the command leaves in the home has to be `lasting`.
    """
    from modeldrop.errors import HomeNotFound  # noqa: PLC0415 - not for `--help`
    from modeldrop.repository import Repository  # noqa: PLC0415 - the same

    named, backend = home_option(), os.environ.get("MODELDROP_BACKEND")
    if named or not backend:
        return Repository.open(Path(named).expanduser() if named else None)
    from modeldrop_cli.passing import open_passing, refuse_another  # noqa: PLC0415 - in CI alone

    try:
        found = Repository.open()
    except HomeNotFound:
        if lasting or os.environ.get("MODELDROP_HOME"):
            raise
        return open_passing(backend)
    refuse_another(found)
    return found


def complete_experiments(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the experiments that this home has seen; never fails, and asks no backend."""
    from modeldrop_cli.completing import experiments  # noqa: PLC0415 - only to complete

    return experiments(ctx, incomplete)


def complete_references(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return references that begin so, as far as this home knows; never fails."""
    from modeldrop_cli.completing import references  # noqa: PLC0415 - only to complete

    return references(ctx, incomplete)


def complete_aliases(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return aliases such as churn@champion that this home has moved; never fails."""
    from modeldrop_cli.completing import aliases  # noqa: PLC0415 - only to complete

    return aliases(ctx, incomplete)


def complete_alias_names(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of such aliases, without the experiment; never fails."""
    from modeldrop_cli.completing import alias_names  # noqa: PLC0415 - only to complete

    return alias_names(ctx, incomplete)


def complete_runs(ctx: click.Context, _: click.Parameter, incomplete: str) -> list[str]:
    """Return runs that begin so, as far as this home knows; never fails."""
    from modeldrop_cli.completing import runs  # noqa: PLC0415 - only to complete

    return runs(ctx, incomplete)
