"""`modeldrop sign`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import (
    Command,
    complete_references,
    exits,
    open_repository,
    output_options,
)
from modeldrop_cli.output import when

if TYPE_CHECKING:
    from modeldrop_cli.objects.vouching import SignedObject
    from modeldrop_cli.output import Output

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command(
    "sign",
    cls=Command,
    examples=(
        ("modeldrop sign churn/3", "by this home's key for models: see `modeldrop key create`"),
        ("modeldrop sign churn/3 --key team.pem", "by a key of your own"),
        ("modeldrop sign churn/3 --signature model.sig", "adds what `model_signing sign` wrote"),
    ),
    exits=exits(
        10,
        20,
        30,
        e2="a wrong call or key, no version; or the extra for signatures isn't installed",
        e10="there is no home, no such version, or no key",
        e20="the signature isn't one of exactly the version's files",
    ),
)
@click.argument("reference", metavar="REF", shell_complete=complete_references)
@click.option("--key", metavar="FILE", type=_FILE, help="Sign by this private ECDSA key, in PEM.")
@click.option(
    "--signature", metavar="FILE", type=_FILE, help="Add this signature, and sign nothing."
)
@click.option("--by", metavar="WHO", help="Who signs; you, by default.")
@output_options
def command(
    reference: str, key: Path | None, signature: Path | None, by: str | None, output: Output
) -> None:
    """Sign a version.

    The signature is in OpenSSF's form, over the digests of exactly the version's files. It is kept
    beside the version, which may have several. `modeldrop verify REF --signature` checks it, and
    so does `model_signing verify key`, on what `modeldrop pull REF --signature` brings. With -q
    the signature's digest is printed.
    """
    from modeldrop_cli.sharing import share  # noqa: PLC0415 - not for `--help`

    if key is not None and signature is not None:
        raise click.UsageError("Give --key or --signature, not both.")
    with open_repository() as repository:
        added = repository.sign(reference, key=key, signature=signature, by=by)
        record = added.record
        if output.json:
            told: SignedObject = {
                "reference": record.reference,
                "sha256": added.digest,
                "created": added.created,
                "host": record.host,
                "added_by": record.added_by,
                "added_at": record.added_at,
            }
            output.document(told)
        else:
            output.id(added.digest)
            who = f"{record.added_by}@{record.host}"
            since = "now" if added.created else f"since {when(record.added_at)}"
            output.say(f"{record.reference} has this signature {since}, by {who}.")
        share(repository)
