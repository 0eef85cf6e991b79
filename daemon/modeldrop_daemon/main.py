"""The program `modeldropd`: its options, and what happens to its errors."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from modeldrop.errors import Interrupted, ModeldropError, UsageError
from modeldrop.names import printable
from modeldrop.redaction import hide, scrub, trace

PROGRAM: Final = "modeldropd"

_EPILOG: Final = """\
\b
Signals:
  SIGTERM, SIGINT   finish what is in flight, then end; a second one ends at once
  SIGHUP            read the settings again

\b
Examples:
  modeldropd                      serve the nearest home, until Ctrl-C
  modeldropd --home ~/.mlops      serve this one
  modeldropd --print-unit user > ~/.config/systemd/user/modeldropd.service

\b
Exit codes:
  0 done · 1 another error · 2 a wrong call or setting · 10 no home
  12 the home has a service already · 20 bytes are not what they were
  30 the backend failed · 130 interrupted"""


def _print_version(ctx: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click's signature
    if value and not ctx.resilient_parsing:
        from modeldrop import __version__  # noqa: PLC0415 - not for `--help`

        click.echo(f"{PROGRAM} {__version__}")
        ctx.exit()


@click.command(PROGRAM, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--home",
    metavar="DIR",
    help="Serve this home, not the nearest .mlops/ or MODELDROP_HOME.",
)
@click.option("-v", "--verbose", is_flag=True, help="Say what is being done, step by step.")
@click.option(
    "--watcher",
    type=click.Choice(["auto", "none"]),
    help="Use the kernel's events or only scan, whatever config.toml says.",
)
@click.option(
    "--print-unit",
    "unit",
    type=click.Choice(["user", "system"]),
    help="Print a systemd unit for this home, and exit.",
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Print the version, and exit.",
)
def cli(home: str | None, verbose: bool, watcher: str | None, unit: str | None) -> int:  # noqa: FBT001 - click's signature
    """Watch the staging folder of a home, and store what is dropped there."""
    root = Path(home).expanduser() if home is not None else None
    if unit is not None:
        from modeldrop_daemon.units import print_unit  # noqa: PLC0415 - not to serve

        click.echo(print_unit(unit, root), nl=False)
        return 0
    from modeldrop.repository import Repository  # noqa: PLC0415 - not for `--help`
    from modeldrop_daemon import credentials, logs  # noqa: PLC0415 - see above
    from modeldrop_daemon.notify import Notifier  # noqa: PLC0415 - see above
    from modeldrop_daemon.service import Service  # noqa: PLC0415 - see above

    logs.set_up(sys.stderr, os.environ, verbose=verbose)
    secrets = credentials.take(os.environ)
    notifier = Notifier.from_environment(os.environ)
    with Repository.open(root) as repository:
        return Service(repository, notifier, watcher=watcher, secrets=secrets).run()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program, and return its exit code.

    Every error is reported here, and nowhere else.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        # Not `cli.main`: it has its own idea of what an error looks like.
        with cli.make_context(PROGRAM, given) as ctx:
            code = cli.invoke(ctx)
        sys.stdout.flush()
    except click.exceptions.Exit as done:
        return done.exit_code
    except BrokenPipeError:
        # Whoever read has gone; what is still buffered would fail again at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - the one place for all errors
        return _report(error)
    return code if isinstance(code, int) else 0


def _report(error: BaseException) -> int:
    """Tell an error on stderr, and return its exit code."""
    known = _as_known(error)
    if type(known) is ModeldropError:
        import logging  # noqa: PLC0415 - only where something failed

        if logging.getLogger("modeldrop_daemon").isEnabledFor(logging.DEBUG):
            sys.stderr.write("".join(f"{line}\n" for line in trace(error)))
    sys.stderr.write(f"Error: {printable(hide(known.message))}\n")
    if known.hint:
        sys.stderr.write(f"Try: {printable(hide(known.hint))}\n")
    return known.exit_code


def _as_known(error: BaseException) -> ModeldropError:
    if isinstance(error, ModeldropError):
        return error
    if isinstance(error, click.ClickException):
        said = " ".join(error.format_message().split())
        return UsageError(said, hint=f"`{PROGRAM} --help`")
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return Interrupted("interrupted", hint="start it again: what was acknowledged stays")
    hint = f"`{PROGRAM} --verbose` shows where it came from"
    if isinstance(error, OSError) and error.strerror:
        named = f": {os.fsdecode(error.filename)}" if error.filename else ""
        return ModeldropError(f"{error.strerror}{named}", hint=hint)
    return ModeldropError(
        f"this is a bug in modeldrop: {type(error).__name__}: {scrub(str(error))}",
        hint=f"report it with what {hint}; what was acknowledged stays",
    )
