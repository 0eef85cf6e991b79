"""What `retry` and `ignore` have in common: a request for the service about runs in staging."""

from __future__ import annotations

from collections.abc import Sequence

from modeldrop import intake
from modeldrop.home import Home
from modeldrop.intake import RunStatus
from modeldrop_cli.objects.dropping import AskedObject
from modeldrop_cli.output import Output


def staged_runs(home: Home, named: Sequence[str]) -> list[str]:
    """Return the GUIDs of the runs in staging that are named, each once.

    Raises:
        InvalidName: one is no name of a run.
        NotFound: one isn't in staging.
    """
    return list(dict.fromkeys(intake.staged_run(home, each) for each in named))


def ask(home: Home, action: str, runs: Sequence[str], output: Output) -> dict[str, RunStatus]:
    """Ask the service for something about these runs, and tell so.

    Returns the runs that weren't stored then, as far as that is known.
    """
    status = intake.read_status(home)
    known = {each.run: each for each in status.runs}
    for run in runs:
        intake.ask(home, action, run)
    if output.json:
        told: AskedObject = {
            "action": action,
            "running": status.pid is not None,
            "runs": [
                {
                    "run": run,
                    "state": known[run].state if run in known else None,
                    "reason": known[run].reason if run in known else "",
                }
                for run in runs
            ],
        }
        output.document(told)
        return known
    for run in runs:
        output.id(run)
    if runs and status.pid is None:
        output.say(
            "No service is running: the next start of `modeldropd`, or `modeldrop scan --once`, "
            "does it."
        )
    elif runs:
        output.say(
            "The service does it within a second; `modeldrop status` shows what comes of it."
        )
    return known
