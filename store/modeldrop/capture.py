"""What a program can tell of itself: its code, its environment, and the digests of its data.

Never a secret: no variable of the environment is looked at, and no address of a remote or of a
package's origin is taken along. What can't be found out is left out; nothing in here fails a drop.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from modeldrop.errors import NotFound, UsageError
from modeldrop.form import Fields, Json
from modeldrop.home import user_name
from modeldrop.names import printable
from modeldrop.records import folder_sha256

# A tree of a million files takes a while; a file system that hangs would take for ever.
_PATIENCE: Final = 10.0
# Only what git follows: a model that was written into the tree changes nothing of the code. No
# program that the tree's settings name is started, and no lock is taken that others would meet.
_GIT: Final = (
    *("git", "-c", "core.fsmonitor=false", "--no-optional-locks"),
    *("status", "--porcelain=v2", "--branch", "--untracked-files=no", "-z"),
)


def captured(*, packages: bool = False, folder: Path | str = ".") -> Fields:
    """Return what this process can tell of a run, as `run.json` and `Repository.upload` take it.

    That is the git commit of `folder` with its branch and whether tracked files differ from it,
    the host, the user, the version of Python and the platform; the installed packages where they
    are asked for. Without git, or outside of a repository, there is no `code`.
    """
    machine = os.uname()
    environment: Fields = {
        "host": printable(machine.nodename),
        "user": printable(user_name()),
        "python": sys.version.split()[0],
        "platform": f"{machine.sysname.lower()}-{machine.machine}",
    }
    if packages:
        environment["packages"] = _packages()
    found: Fields = {"environment": environment}
    code = _code(Path(folder))
    if code is not None:
        found["code"] = code
    return found


def digest_of_path(path: Path) -> str:
    """Return the sha256 of a file, or of a folder with its files as docs/format.md defines it.

    Raises:
        NotFound: there is nothing.
        UsageError: it is, or holds, something that is neither a file nor a folder, or a link.
    """
    shown = printable(str(path))
    if not path.exists():
        message = f"there is no file or folder {shown}"
        raise NotFound(message, hint="name the data set's file or folder, or give its sha256")
    if path.is_dir():
        return folder_sha256(_digests(path))
    if not path.is_file():
        message = f"{shown} is neither a file nor a folder"
        raise UsageError(message, hint="name the data set's file or folder, or give its sha256")
    return _digest(path)


def _digests(folder: Path) -> Iterator[tuple[str, str]]:
    waiting = [folder]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                inner = os.path.relpath(entry.path, folder)
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(Path(entry.path))
                elif entry.is_file(follow_symlinks=False) and printable(inner) == inner:
                    yield inner, _digest(Path(entry.path))
                else:
                    message = (
                        f"{printable(entry.path)} has no place in the digest of a data set: it is "
                        "a link, no regular file, or its name is no plain text"
                    )
                    raise UsageError(message, hint="give the sha256 of the data set instead")


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _packages() -> dict[str, Json]:
    """Return the installed packages with their versions, and nothing of where they came from."""
    from importlib import metadata as installed  # noqa: PLC0415 - slow, and hardly ever asked for

    found: dict[str, Json] = {}
    for each in installed.distributions():
        # What is broken has neither; the first one found is the one that is imported.
        name, version = each.metadata["Name"], each.version
        if name and version:
            found.setdefault(printable(name), printable(version))
    return found


def _code(folder: Path) -> Fields | None:
    try:
        done = subprocess.run(  # noqa: S603 - the arguments are our own
            _GIT,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PATIENCE,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.decode("utf-8", "replace").split("\0")
    told = dict(line[2:].partition(" ")[::2] for line in lines if line.startswith("# "))
    commit, branch = told.get("branch.oid", ""), told.get("branch.head", "")
    if commit.startswith("(") or not commit:
        # Nothing has been committed yet.
        return None
    return {
        "commit": commit,
        "dirty": any(line and not line.startswith("# ") for line in lines),
        "branch": None if branch.startswith("(") else printable(branch),
    }
