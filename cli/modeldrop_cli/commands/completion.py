"""`modeldrop completion`."""

from __future__ import annotations

import sys
from typing import Final

import click

from modeldrop_cli.command import Command
from modeldrop_cli.output import say

_INSTALL: Final = {
    "bash": "echo 'eval \"$(modeldrop completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(modeldrop completion zsh)\"' >> ~/.zshrc",
    "fish": "modeldrop completion fish > ~/.config/fish/completions/modeldrop.fish",
}


@click.command(
    "completion",
    cls=Command,
    examples=tuple((line, f"completes commands in {shell}") for shell, line in _INSTALL.items()),
)
@click.argument("shell", type=click.Choice(list(_INSTALL)))
def command(shell: str) -> None:
    """Print the shell's completion script.

    Commands, options, experiments and runs that this machine knows are completed.
    """
    from click.shell_completion import ShellComplete, get_completion_class  # noqa: PLC0415 - only here

    from modeldrop_cli.main import COMPLETE_VARIABLE, PROGRAM, cli  # noqa: PLC0415 - a circle otherwise

    found = get_completion_class(shell)
    if found is None:
        raise click.UsageError(f"click knows no shell {shell!r}")
    # Not bash's own `source`: it runs bash to ask for its version, and there may be none here.
    script = ShellComplete.source(found(cli, {}, PROGRAM, COMPLETE_VARIABLE))
    sys.stdout.write(script)
    if sys.stdout.isatty():
        say(f"To use it from now on: {_INSTALL[shell]}")
