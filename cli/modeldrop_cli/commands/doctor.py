"""`modeldrop doctor`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from modeldrop_cli.command import Command, exits, home_option, output_options

if TYPE_CHECKING:
    from modeldrop_cli.objects.tending import DoctorObject
    from modeldrop_cli.output import Output


@click.command(
    "doctor",
    cls=Command,
    examples=(
        ("modeldrop doctor", "everything that can be looked at without writing to the backend"),
        ("modeldrop doctor --probe", "and whether create-if-absent still holds there"),
        ("modeldrop doctor -q", "nothing, if nothing is off; else the names of what is"),
    ),
    exits=exits(10, e3="there are problems; each is named", e10="there is no home"),
)
@click.option("--probe", is_flag=True, help="Race for create-if-absent at the backend again.")
@output_options
def command(probe: bool, output: Output) -> None:  # noqa: FBT001 - click's signature
    """Look whether home, staging, backend and service are in order.

    A problem keeps something from working, a warning makes it worse; each says what to do. With
    -q the names of what isn't ok are printed.
    """
    from modeldrop.doctor import OK, PROBLEM, diagnose  # noqa: PLC0415 - not for `--help`

    named = home_option()
    root = Path(named).expanduser() if named else None
    found = list(diagnose(root, probe=probe))
    problems = [each for each in found if each.result == PROBLEM]
    if output.json:
        # The library gives plain JSON; tests hold it against the type.
        whole = {"ok": not problems, "checks": [each.as_json() for each in found]}
        output.document(cast("DoctorObject", whole))
    elif output.quiet:
        for each in found:
            if each.result != OK:
                output.id(each.name)
    else:
        rows = []
        for each in found:
            rows.append((each.result, each.name, each.what))
            if each.todo:
                rows.append(("", "", f"Try: {each.todo}"))
        output.table(("result", "check", "what"), rows)
    if problems:
        from modeldrop.errors import PartialFailure  # noqa: PLC0415 - only then

        count = len(problems)
        raise PartialFailure(
            f"{count} {'problem' if count == 1 else 'problems'}: "
            + ", ".join(each.name for each in problems),
            hint="each says above what to do about it",
            detail={"problems": [each.name for each in problems]},
        )
