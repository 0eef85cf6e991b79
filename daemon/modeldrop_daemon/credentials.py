"""Secrets of the store that the service manager hands over as a file.

`LoadCredential=environment:/etc/modeldrop/environment` in the unit makes systemd put that file,
which root alone can read, where only the service can read it; see systemd.exec(5), `Credentials`.
What the clients of the object stores look for is the environment, so its lines go there: into that
of this process, where neither `systemctl show` nor `/proc/PID/environ` shows them.

No value of it is ever part of an error or of a log.
"""

from __future__ import annotations

import logging
import os
from collections.abc import MutableMapping
from pathlib import Path
from typing import Final

from modeldrop.errors import ConfigError
from modeldrop.names import printable

_log = logging.getLogger(__name__)

NAME: Final = "environment"

# What clients of object stores look for. Anything else in there (LD_PRELOAD, PATH, MODELDROP_HOME)
# would be a way to do more than to log in.
_ALLOWED: Final = ("AWS_", "AZURE_STORAGE_", "GOOGLE_")
_MORE: Final = frozenset({"AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET", "AZURE_TENANT_ID"})


def take(environ: MutableMapping[str, str]) -> tuple[str, ...]:
    """Put what the manager handed over into the environment; return the names.

    A line is `NAME=value`, taken as it stands: nothing is unquoted or expanded. Empty lines and
    those that begin with `#` are passed over. Without a manager, or without the file, nothing
    happens.

    Raises:
        ConfigError: the file can't be read, or a line isn't one of a credential.
    """
    folder = environ.get("CREDENTIALS_DIRECTORY")
    if not folder:
        return ()
    path = Path(folder) / NAME
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ()
    except OSError as error:
        message = f"the credential {path} can't be read: {error.strerror}"
        raise ConfigError(message, hint="see LoadCredential= in the unit") from error
    # As the environment itself has it: a decoding error would show the bytes.
    text = os.fsdecode(data)
    found = dict(_pair(line, number) for number, line in _lines(text))
    environ.update(found)
    names = tuple(sorted(found))
    if names:
        _log.info("from the service manager: %s", ", ".join(names))
    return names


def _lines(text: str) -> list[tuple[int, str]]:
    numbered = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
    return [(number, line) for number, line in numbered if line and not line.startswith("#")]


def _pair(line: str, number: int) -> tuple[str, str]:
    name, equals, value = line.partition("=")
    if not equals or "\0" in line:
        # Not even the name is shown: without `=` it may be the secret.
        message = f"line {number} of the credential {NAME!r} is no `NAME=value`"
        raise ConfigError(message, hint="write one variable a line, without `export`")
    if not name.startswith(_ALLOWED) and name not in _MORE:
        known = ", ".join([*(f"{each}*" for each in _ALLOWED), *sorted(_MORE)])
        message = (
            f"line {number} of the credential {NAME!r} sets {printable(name)!r}, which is no "
            "credential of a store"
        )
        raise ConfigError(message, hint=f"taken are {known}")
    return name, value
