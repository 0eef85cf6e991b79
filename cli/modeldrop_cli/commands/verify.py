"""`modeldrop verify`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
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
    from modeldrop.verify.evidence import SignedJournal
    from modeldrop_cli.objects.tending import VerifyObject
    from modeldrop_cli.output import Output


@click.command(
    "verify",
    cls=Command,
    examples=(
        ("modeldrop verify", "the journal, the records, and the sizes of all files"),
        ("modeldrop verify --deep", "every byte, too: as slow as pulling everything"),
        ("modeldrop verify churn/3", "every byte of version 3"),
        ("modeldrop verify churn/3 --signature", "that a trusted home has signed it, too"),
        ("modeldrop verify churn/3 --signature --key team.pub", "that this key has signed it"),
    ),
    exits=exits(
        10,
        20,
        30,
        e10="not found: the home, the version, or a signature of it",
        e20="something is damaged, missing, or not signed by whom it should be; each is named",
    ),
)
@click.argument("reference", metavar="[REF]", required=False, shell_complete=complete_references)
@click.option("--deep", is_flag=True, help="Read every byte of every file.")
@click.option("--signature", is_flag=True, help="Check the signatures of a version, too.")
@click.option(
    "--key",
    "public_keys",
    metavar="FILE",
    multiple=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="A public key in PEM that signatures may be by; without one, those of trusted homes.",
)
@output_options
def command(
    reference: str | None,
    deep: bool,  # noqa: FBT001 - click's signature
    signature: bool,  # noqa: FBT001 - the same
    public_keys: tuple[Path, ...],
    output: Output,
) -> None:
    """Check that everything is as it was stored.

    The journals of all hosts are compared with what is at the backend, both ways, and with what
    their homes have signed. Changes nothing. With -q the places of what was found are printed.
    """
    if (signature and reference is None) or (public_keys and not signature):
        raise click.UsageError("--signature is for one version, and --key goes with --signature.")
    what = reference or "the store"
    with open_repository() as repository, output.progress(f"Checking {what}", None) as moved:
        report = repository.verify(
            reference, deep=deep, signed=signature, public_keys=public_keys, moved=moved
        )
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
    for each in report.signatures:
        if each.signer:
            output.say(f"Signed by {each.signer}.")
        elif not each.trouble and each.record is not None:
            who = f"{each.record.added_by}@{each.record.host}"
            output.say(f"A signature that {who} added is by a key that isn't trusted here.")
    _tell_journals(report.journals, output)


def _tell_journals(journals: Sequence[SignedJournal], output: Output) -> None:
    """Say which journals are signed, and never that one is where that wasn't checked."""
    unchecked = [each for each in journals if each.state == "not checked"]
    if unchecked:
        output.say(
            f"Not checked: the signatures of {_named(unchecked)}. "
            "`pip install 'modeldrop[sign]'` makes that possible."
        )
    signed = [each for each in journals if each.state == "signed"]
    if signed:
        unsigned = [each for each in journals if each.state == "unsigned"]
        rest = f"; not signed: {_named(unsigned)}" if unsigned else ""
        output.say(f"Signed journals: {len(signed)} of {len(journals)}{rest}.")
        late = [each for each in signed if each.seq < each.entries]
        if late:
            output.say(f"Their last entries aren't signed yet: {_named(late)}.")
        believed = [each for each in signed if not each.pinned]
        if believed:
            output.say(
                f"Met for the first time, so whose key it is only the backend says: "
                f"{_named(believed)}. `modeldrop fetch` pins it, `modeldrop key list` shows it."
            )


def _named(journals: Sequence[SignedJournal]) -> str:
    return ", ".join(f"{each.host or 'unknown'} ({each.home})" for each in journals)
