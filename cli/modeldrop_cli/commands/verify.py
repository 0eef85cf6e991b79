"""`modeldrop verify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from modeldrop_cli.command import (
    Command,
    complete_references,
    exits,
    open_repository,
    output_options,
)

if TYPE_CHECKING:
    from modeldrop.verify import Report
    from modeldrop_cli.objects.tending import VerifyObject
    from modeldrop_cli.output import Output


@click.command(
    "verify",
    cls=Command,
    examples=(
        ("modeldrop verify", "the journal, the records, and the sizes of all files"),
        ("modeldrop verify --deep", "every byte, too: as slow as pulling everything"),
        ("modeldrop verify churn/3", "every byte of version 3"),
    ),
    exits=exits(10, 20, 30, e20="something is damaged or missing; each is named"),
)
@click.argument("reference", metavar="[REF]", required=False, shell_complete=complete_references)
@click.option("--deep", is_flag=True, help="Read every byte of every file.")
@output_options
def command(reference: str | None, deep: bool, output: Output) -> None:  # noqa: FBT001 - click's signature
    """Check that everything is as it was stored.

    The journals of all hosts are compared with what is at the backend, both ways. Changes nothing.
    With -q the places of what was found are printed.
    """
    what = reference or "the store"
    with open_repository() as repository, output.progress(f"Checking {what}", None) as moved:
        report = repository.verify(reference, deep=deep, moved=moved)
    if output.json:
        # The library gives plain JSON; tests hold it against the type.
        output.document(cast("VerifyObject", report.as_json()))
    elif output.quiet:
        for each in report.findings:
            output.id(each.where)
    else:
        _tell(report, output)
    if not report.ok:
        from modeldrop.errors import IntegrityError  # noqa: PLC0415 - only then

        count = len(report.findings)
        raise IntegrityError(
            f"{count} {'thing is' if count == 1 else 'things are'} not as stored",
            hint="restore what is named from a copy of the store; the rest is not affected",
            detail={"findings": count},
        )


def _tell(report: Report, output: Output) -> None:
    output.table(
        ("damaged", "where", "what"),
        [(each.kind, each.where, each.what) for each in report.findings],
    )
    counts = ", ".join(f"{name}: {number}" for name, number in sorted(report.checked.items()))
    how = "every byte" if report.deep else "sizes, not bytes: --deep reads them"
    output.say(f"Checked {how}; {counts or 'the store is empty'}")
