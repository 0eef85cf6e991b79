"""Every error, told in one shape: what failed, what to do next, and an exit code."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NoReturn

import click

from modeldrop.errors import Interrupted, ModeldropError, UsageError
from modeldrop.names import printable
from modeldrop.redaction import hide, scrub, trace
from modeldrop_cli.output import say, to_json

if TYPE_CHECKING:
    from modeldrop_cli.objects.failing import ErrorObject


class Sigterm(KeyboardInterrupt):
    """SIGTERM came; raised where that has to clean up, as Ctrl-C does."""


class Failed(ModeldropError):
    """The operating system refused something; the message names the file."""


class Bug(ModeldropError):
    """Something that nobody expected."""


@contextlib.contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM end the body as Ctrl-C does: it cleans up, and a second one changes nothing."""

    def end(number: int, _: object) -> NoReturn:
        signal.signal(number, signal.SIG_IGN)
        raise Sigterm

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def report(error: BaseException, given: Sequence[str]) -> int:
    """Tell an error on stderr, and return its exit code; `given` are the program's arguments.

    With `--json` it is told as JSON. A closed pipe is told nobody: whoever read it has gone.
    """
    _finish_output()
    if isinstance(error, BrokenPipeError):
        return 128 + signal.SIGPIPE
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        sys.stderr.write(error.format_message() + "\n")
        return UsageError.exit_code
    known = _as_known(error)
    # As the shell says it of a program that SIGTERM ended at once.
    code = 128 + signal.SIGTERM if isinstance(error, Sigterm) else known.exit_code
    if _wants(given, "--debug") or os.environ.get("MODELDROP_DEBUG"):
        for line in trace(error):
            say(line)
    if _wants(given, "--json"):
        said: ErrorObject = {
            "error": {
                "kind": type(known).__name__,
                "message": printable(hide(known.message)),
                "hint": printable(hide(known.hint)),
                "exit_code": code,
                "detail": known.detail,
            }
        }
        sys.stderr.write(hide(to_json(said)) + "\n")
    else:
        say(f"Error: {hide(known.message)}")
        if known.hint:
            say(f"Try: {hide(known.hint)}")
    return code


def _as_known(error: BaseException) -> ModeldropError:
    if isinstance(error, ModeldropError):
        return error
    if isinstance(error, click.ClickException):
        return _usage(error)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        told = "ended by SIGTERM" if isinstance(error, Sigterm) else "interrupted"
        return Interrupted(told, hint="run it again: what was acknowledged stays")
    if isinstance(error, OSError) and error.strerror:
        named = f": {os.fsdecode(error.filename)}" if error.filename else ""
        return Failed(
            f"{error.strerror}{named}", hint="`modeldrop --debug …` shows where it came from"
        )
    return Bug(
        f"this is a bug in modeldrop: {type(error).__name__}: {scrub(str(error))}",
        hint="report it with what `modeldrop --debug …` shows; what was acknowledged stays",
    )


def _usage(error: click.ClickException) -> ModeldropError:
    ctx = error.ctx if isinstance(error, click.UsageError) else None
    path = ctx.command_path if ctx else "modeldrop"
    hint = f"`{path} --help`"
    if isinstance(error, click.NoSuchOption) and ctx and ctx.parent:
        above = {name for each in ctx.find_root().command.params for name in each.opts}
        if error.option_name in above:
            hint = f"`modeldrop {error.option_name} … {ctx.info_name}`: it goes before the command"
    return UsageError(" ".join(error.format_message().split()), hint=hint)


def _wants(given: Sequence[str], option: str) -> bool:
    """Return whether an option was given, even where the call can't be parsed."""
    end = given.index("--") if "--" in given else len(given)
    return option in given[:end]


def _finish_output() -> None:
    """Write what was printed before the error; what can't be written goes nowhere.

    It would fail again when the interpreter ends, with another exit code.
    """
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
