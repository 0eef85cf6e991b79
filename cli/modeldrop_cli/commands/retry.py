"""`modeldrop retry`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import Command, complete_runs, exits, open_repository, output_options

if TYPE_CHECKING:
    from modeldrop_cli.output import Output


@click.command(
    "retry",
    cls=Command,
    examples=(
        ("modeldrop retry 3f2b8c1e", "tries a run again that is blocked, parked or ignored"),
        ("modeldrop retry --all", "every one that is, after whatever stopped them was mended"),
    ),
    exits=exits(10, e10="there is no home, or no such run in staging"),
)
@click.argument("runs", nargs=-1, metavar="[RUN]…", shell_complete=complete_runs)
@click.option("--all", "every", is_flag=True, help="Every run that is blocked, parked or ignored.")
@output_options
def command(runs: tuple[str, ...], every: bool, output: Output) -> None:  # noqa: FBT001 - click's signature
    """Have runs tried again, now.

    A RUN in staging is named by its GUID, the first digits of it, 4 or more, or the path of its
    staging folder. Ends the wait of a blocked run, tries a parked one again as it is, and takes
    `modeldrop ignore` back. Prints the GUIDs.
    """
    from modeldrop import intake  # noqa: PLC0415 - not for `--help`
    from modeldrop.errors import UsageError  # noqa: PLC0415 - the same
    from modeldrop_cli import asking  # noqa: PLC0415 - the same

    if every == bool(runs):
        message = "name the runs, or say --all" if not runs else "--all goes without named runs"
        raise UsageError(message, hint="`modeldrop status` shows which runs are stuck, and why")
    with open_repository(lasting=True) as repository:
        home = repository.home
        if every:
            chosen = intake.stuck_runs(home, intake.read_status(home))
        else:
            chosen = asking.staged_runs(home, runs)
        known = asking.ask(home, intake.RETRY, chosen, output)
    if not chosen:
        output.say("No run is blocked, parked or ignored.")
    if every:
        return
    for run in chosen:
        status = known.get(run)
        if status is None:
            output.say(f"Run {run} is stored, or was never looked at: nothing holds it up.")
        elif status.state not in intake.STUCK:
            output.say(f"Run {run} is {status.state}: nothing holds it up.")
