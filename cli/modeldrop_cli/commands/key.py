"""`modeldrop key`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from modeldrop_cli.command import Command, exits, open_repository, output_options
from modeldrop_cli.output import when

if TYPE_CHECKING:
    from modeldrop.signed_records import HomeKey
    from modeldrop.vouching import KnownKey
    from modeldrop_cli.objects.vouching import (
        CreatedKeyObject,
        KeyObject,
        KeysObject,
        KnownKeyObject,
    )
    from modeldrop_cli.output import Output


@click.group("key", subcommand_metavar="COMMAND …")
def command() -> None:
    """Make this home a key, and say whose keys to trust."""


@command.command(
    "create",
    cls=Command,
    examples=(
        ("modeldrop key create", "from now on this home signs what it shares"),
        ("modeldrop key create --renew", "another key takes its place, endorsed by the old one"),
    ),
    exits=exits(
        10,
        11,
        12,
        20,
        30,
        e2="a wrong call; or the extra for signatures isn't installed",
        e10="there is no home",
        e11="the home had a key and has lost it; --renew makes another one",
        e20="somebody else has put a key for this home to the backend",
    ),
)
@click.option("--renew", is_flag=True, help="Replace the key that the home has, or had.")
@output_options
def create(renew: bool, output: Output) -> None:  # noqa: FBT001 - click's signature
    """Make a key for this home.

    From then on the home signs its journal whenever it shares it, and `modeldrop sign` signs
    models. The private part stays in the home, in `keys/`; the public one is shared. Run again, it
    says which key there is. With -q the fingerprint is printed.
    """
    from modeldrop_cli.sharing import share  # noqa: PLC0415 - not for `--help`

    with open_repository(lasting=True) as repository:
        made = repository.create_key(renew=renew)
        if output.json:
            told: CreatedKeyObject = {**_object(made.key), "created": made.created}
            output.document(told)
        else:
            output.id(made.key.fingerprint)
            if made.created:
                output.say(
                    f"It is key {made.key.key} of this home, {made.key.home}. Tell the fingerprint "
                    "to those who use its models, and keep a copy of `keys/` in a safe place."
                )
            else:
                output.say(f"This home has it since {when(made.key.made_at)}.")
        share(repository)


@command.command(
    "list",
    cls=Command,
    examples=(
        ("modeldrop key list", "this home's key, and those of the others"),
        ("modeldrop key list -q", "their fingerprints, one a line"),
    ),
    exits=exits(10, 20, 30, e10="there is no home", e20="this home's key is damaged"),
)
@output_options
def list_keys(output: Output) -> None:
    """List the newest key of each home, and whether it is trusted here.

    A key that was pinned at first use is the one that the backend had when this home first looked:
    compare its fingerprint with what this command says on that host.
    """
    with open_repository() as repository:
        found = repository.keys()
    if output.json:
        told: KeysObject = {"keys": [_known(each) for each in found]}
        output.document(told)
    elif output.quiet:
        for each in found:
            output.id(each.key.fingerprint)
    else:
        output.table(
            ("home", "host", "key", "fingerprint", "trusted"),
            [
                (
                    each.key.home,
                    each.key.host,
                    str(each.key.key),
                    each.key.fingerprint,
                    _trusted(each),
                )
                for each in found
            ],
            right="key",
        )
        for each in found:
            for trouble in each.troubles:
                output.say(f"{each.key.home}: {trouble}")
        if not found:
            output.say("No home has a key. `modeldrop key create` makes one for this home.")


@command.command(
    "show",
    cls=Command,
    examples=(
        ("modeldrop key show --models > team.pub", "for `model_signing verify key`"),
        ("modeldrop key show 6c1f4b1a-0d53-4d55-8a43-7c1d0a3f5e21", "another home's"),
    ),
    exits=exits(10, 20, 30, e10="there is no home, or it has no key"),
)
@click.argument("home", metavar="[HOME]", required=False)
@click.option("--models", is_flag=True, help="Print the key for models, not the journal's.")
@output_options
def show(home: str | None, models: bool, output: Output) -> None:  # noqa: FBT001 - click's signature
    """Print the public key of a home, of this one by default, as PEM."""
    from modeldrop.errors import KeyNotFound  # noqa: PLC0415 - not for `--help`
    from modeldrop.keys import pem_of  # noqa: PLC0415 - the same

    with open_repository() as repository:
        wanted = home or repository.home.id
        known = repository.keys()
    found = next((each.key for each in known if each.key.home == wanted), None)
    if found is None:
        message = f"there is no key of the home {wanted}"
        raise KeyNotFound(message, hint="`modeldrop key list` lists those that there are")
    if output.json:
        output.document(_object(found))
    elif output.quiet:
        output.id(found.fingerprint)
    else:
        for line in pem_of(found.models if models else found.public).splitlines():
            output.id(line)


@command.command(
    "trust",
    cls=Command,
    examples=(
        (
            "modeldrop key trust 6c1f4b1a-0d53-4d55-8a43-7c1d0a3f5e21 9f86d081884c7d65",
            "as `modeldrop key list` says on that host",
        ),
    ),
    exits=exits(
        10,
        30,
        e2="a wrong call; or the extra for signatures isn't installed",
        e10="there is no home, or that one has no such key",
    ),
)
@click.argument("home", metavar="HOME")
@click.argument("fingerprint", metavar="FINGERPRINT")
@output_options
def trust(home: str, fingerprint: str, output: Output) -> None:
    """Trust a key of another home, whatever was trusted before.

    Get the FINGERPRINT, or 16 digits of it, from whoever looks after that home, and not from the
    store. Models that were signed by a home whose key you trust so count as signed.
    """
    from modeldrop_cli.sharing import share  # noqa: PLC0415 - not for `--help`

    with open_repository(lasting=True) as repository:
        key = repository.trust_key(home, fingerprint)
        if output.json:
            output.document(_object(key))
        else:
            output.id(key.fingerprint)
            output.say(f"It is trusted as key {key.key} of {key.home} ({key.host}).")
        share(repository)


def _object(key: HomeKey) -> KeyObject:
    from modeldrop.keys import pem_of  # noqa: PLC0415 - not for `--help`

    return {
        "home": key.home,
        "host": key.host,
        "key": key.key,
        "fingerprint": key.fingerprint,
        "public": pem_of(key.public),
        "models": pem_of(key.models),
        "made_by": key.made_by,
        "made_at": key.made_at,
    }


def _known(known: KnownKey) -> KnownKeyObject:
    pin = known.pin
    return {
        **_object(known.key),
        "own": known.is_own,
        "trusted": known.is_trusted,
        "pinned_by": pin.pinned_by if pin else None,
        "pinned_at": pin.pinned_at if pin else None,
        "checkpoint": pin.checkpoint if pin else None,
        "troubles": list(known.troubles),
    }


def _trusted(known: KnownKey) -> str:
    if known.is_own:
        return "this home's"
    if known.is_trusted is None:
        return "not checked"
    if not known.is_trusted:
        return "no"
    return f"pinned by {known.pin.pinned_by}" if known.pin else "not pinned yet"
