"""The program: what it can do, and what happens to its errors.

Only click is imported here, and the table below says what each command is for: `--help`, shell
completion and a slip of the keyboard cost what click costs. A command's module is imported when
the command runs, and the library by the command.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NoReturn

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

PROGRAM: Final = "modeldrop"
COMPLETE_VARIABLE: Final = "_MODELDROP_COMPLETE"
# After how many new objects the collector of circles looks at them; Python's own is 700.
_COLLECT_AFTER: Final = 50_000

# In the order in which a person needs them. The name is the module's, too; a test holds each line
# against the command's own help.
SECTIONS: Final[dict[str, dict[str, str]]] = {
    "Start": {
        "init": "Make a home, and try its backend.",
        "clone": "Make a home from a backend that others use.",
        "completion": "Print the shell's completion script.",
    },
    "Drop and store": {
        "run": "Begin a training run.",
        "drop": "Drop files into a run, whole.",
        "scan": "Store what was dropped, once.",
        "status": "Show the service and what isn't stored yet.",
        "retry": "Have runs tried again, now.",
        "ignore": "Have runs left alone.",
    },
    "Read": {
        "runs": "List the runs.",
        "list": "List experiments, or the versions of one.",
        "show": "Show a version or a run.",
        "log": "Show what happened, newest first.",
        "inspect": "Say what a file is, by its header.",
        "search": "Find versions, or runs, by what is known of them.",
        "best": "Show the best version of an experiment by a metric.",
        "diff": "Show how two versions, or two runs, differ.",
        "plot": "Draw a metric over the versions of an experiment.",
    },
    "Register and use": {
        "register": "Give a run's model the next version.",
        "promote": "Put an alias on a version.",
        "alias": "List aliases, show where one was, remove one.",
        "retire": "Say that a version is not to be used any more.",
        "target": "Name places to deploy to; list them, remove one.",
        "deploy": "Have a version live at a target.",
        "rollback": "Have the version live again that was live before.",
        "deployments": "Show what is live at each target, or what was.",
        "pull": "Get a verified copy of a model.",
        "path": "Print the path of a cached copy.",
    },
    "Share": {
        "push": "Share what this home did.",
        "fetch": "Get what other hosts did.",
    },
    "Vouch for it": {
        "key": "Make this home a key, and say whose keys to trust.",
        "sign": "Sign a version.",
    },
    "Come and go": {
        "import": "Import from MLflow, MLOps.NET or a bundle.",
        "export": "Write versions and runs into a bundle.",
    },
    "Look after the store": {
        "verify": "Check that everything is as it was stored.",
        "gc": "Collect what crashes left, and what may go.",
        "cache": "Look after the cached copies of what was pulled.",
        "clean": "Delete staged copies of what is stored.",
        "rebuild": "Make a lost or damaged journal again.",
        "doctor": "Look whether home, staging, backend and service are in order.",
    },
}

# A keyword can't be a module's name.
MODULES: Final = {"import": "importing"}

COMMANDS: Final[dict[str, str]] = {
    name: text for section in SECTIONS.values() for name, text in section.items()
}

_EPILOG: Final = """\
\b
Names:
  churn  churn/3             the newest version; version 3
  churn@champion             the version that an alias is on
  churn@production           the version that is live at a target
  run:GUID  run:GUID~2       a run; its revision 2
  run:GUID/ARTIFACT          one artifact of it
  run:@last                  the run that was stored last
A GUID may be shortened to its first digits, 4 or more.

\b
The service that stores what is dropped is `modeldropd`.
`modeldrop COMMAND --help` shows examples and exit codes."""


class LazyGroup(click.Group):
    """The commands of the table; each one's module is imported when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names of all commands."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        """Return a command, or None if there is none of this name."""
        if cmd_name not in COMMANDS:
            return None
        name = MODULES.get(cmd_name, cmd_name)
        module = importlib.import_module(f"modeldrop_cli.commands.{name}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name, or say which ones are near."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            # Click looks for near names among the commands that are loaded, and none is.
            if not args[0].startswith("-") and args[0] not in COMMANDS:
                raise click.exceptions.NoSuchCommand(
                    args[0], possibilities=COMMANDS, ctx=ctx
                ) from error
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the table, section by section."""
        width = max(map(len, COMMANDS))
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name.ljust(width), text) for name, text in commands.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return the commands and options that begin so, without importing any command."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - only to complete

        found = [
            CompletionItem(name, help=text)
            for name, text in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value and not ctx.resilient_parsing:
        from modeldrop import __version__  # noqa: PLC0415 - not for `--help`

        click.echo(f"{PROGRAM} {__version__}")
        ctx.exit()


@click.group(
    PROGRAM,
    cls=LazyGroup,
    epilog=_EPILOG,
    context_settings={"help_option_names": ["-h", "--help"]},
    options_metavar="[OPTIONS]",
    subcommand_metavar="COMMAND …",
)
@click.option(
    "--home",
    metavar="DIR",
    help="Use this home, not the nearest .mlops/ or MODELDROP_HOME.",
)
@click.option("-v", "--verbose", count=True, help="Say what is being done; -vv says more.")
@click.option("--debug", is_flag=True, help="Show where an error came from.")
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version, and exit.",
)
def cli(home: str | None, verbose: int, debug: bool) -> None:  # noqa: ARG001, FBT001 - commands and the mapper read home and debug
    """Source control for trained models.

    Drop a model into a folder; get a verified, versioned copy in any object store.
    """
    if verbose:
        from modeldrop_cli import verbose as talk  # noqa: PLC0415 - only where it is asked for

        talk.set_up(verbose)


def program() -> int:
    """Be the program, in a process that ends with it; return its exit code.

    What is loaded lives as long as the process, so that to look for circles in it again and again,
    and once more when it ends, would be a sixth of a short command.
    """
    gc.set_threshold(_COLLECT_AFTER)
    try:
        return main()
    finally:
        gc.freeze()


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the arguments say, and return the exit code.

    Every error is reported here, and nowhere else.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if COMPLETE_VARIABLE in os.environ:
        _complete()
    try:
        # Not `cli.main`: it ends the program itself when the reader of a pipe is gone.
        with cli.make_context(PROGRAM, list(given)) as ctx:
            cli.invoke(ctx)
        # What can't be written is an error of this program, not of the interpreter's exit.
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one place for all errors
        from modeldrop_cli.failing import report  # noqa: PLC0415 - only when something failed

        return report(error, given)
    return 0


def _complete() -> NoReturn:
    """Answer the shell, which asks with an environment variable, and exit."""
    import contextlib  # noqa: PLC0415 - only to complete

    # A broken home must not break the shell's prompt.
    with contextlib.suppress(Exception):
        cli.main([], prog_name=PROGRAM, complete_var=COMPLETE_VARIABLE)
    sys.exit(0)
