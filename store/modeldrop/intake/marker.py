"""`_SUCCESS`: by it a run says that it is complete, and which files that takes.

It is empty, or has a line for each file: as sha256sum writes them (with two spaces, with a space
and `*`, or with --tag), or bare paths, also of folders. Paths are relative to the run; a leading
`./` is dropped. What modeldrop never stores may be listed too, since `sha256sum *` lists it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from modeldrop.intake.observation import Observation, SeenFile
from modeldrop.intake.walk import read_small
from modeldrop.names import MARKER, RECEIPT, is_artifact_name, printable, refuse_component
from modeldrop.records import Refused
from modeldrop.structs import Frozen, field

# Room for some 100,000 files; more than that is no list.
MOST_BYTES: Final = 16 << 20

_SUM: Final = re.compile(r"([0-9a-fA-F]{64}) [ *](.+)")
_TAGGED: Final = re.compile(r"SHA256 \((.+)\) = ([0-9a-fA-F]{64})")
# md5sum, sha1sum, sha512sum …: read as paths they would be waited for without end.
_OTHER_SUM: Final = re.compile(r"\\?(?:[0-9a-fA-F]{32,128} [ *].+|[A-Za-z0-9-]+ \(.+\) = \S+)")


class Marker(Frozen):
    """What a marker says: the paths that make the run complete, and the digests of some."""

    paths: tuple[str, ...] = ()
    digests: Mapping[str, str] = field(default_factory=dict)

    def check(self, observation: Observation) -> tuple[str, ...]:
        """Return the listed paths that are not there, in the order of the list.

        What is refused is there: it never becomes a file, and parks its own artifact. A bare path
        may be a folder's with any file in it.
        """
        there = {file.path for file in observation.everything()}
        folders = {above for path in there for above in _above(path)}
        refused = {each.path for each in observation.refused}
        return tuple(
            path
            for path in self.paths
            if path not in there
            and (path in self.digests or path not in folders)
            and refused.isdisjoint((path, *_above(path)))
        )


def read(staging: Path, name: str, seen: SeenFile) -> Marker | Refused:
    """Return what the marker of a run says, or the reason why it can't be understood.

    Raises:
        SourceChanged: it changed since it was seen.
        PermissionError: it can't be read by this user.
        OSError: it can't be read for another reason.
    """
    if seen.signature.size > MOST_BYTES:
        return _refuse(f"it is larger than {MOST_BYTES >> 20} MiB")
    return parse(read_small(staging, name, seen))


def parse(data: bytes) -> Marker | Refused:
    """Return what the bytes of a marker say, or the reason why they can't be understood."""
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return _refuse("it is not UTF-8")
    paths: dict[str, str | None] = {}
    # Not splitlines(), which would also split at characters that a name may have.
    for number, raw in enumerate(text.removeprefix("\ufeff").split("\n"), start=1):
        line = raw.removesuffix("\r")
        if not line.strip():
            continue
        found = _parse_line(line)
        if isinstance(found, str):
            return _refuse(f"line {number}: {found}")
        path, digest = found
        if paths.get(path) not in {None, digest} and digest is not None:
            return _refuse(f"line {number}: {printable(path)!r} has two digests")
        # `sha256sum * > _SUCCESS` lists the marker itself as it was before, and so a receipt.
        if path not in {MARKER, RECEIPT}:
            paths[path] = digest or paths.get(path)
    return Marker(
        tuple(paths),
        {path: sha for path, sha in paths.items() if sha and is_artifact_name(path)},
    )


def _parse_line(line: str) -> tuple[str, str | None] | str:
    """Return the path of a line and its digest, or why the line can't be understood."""
    if found := _SUM.fullmatch(line):
        digest, path = found[1].lower(), found[2]
    elif found := _TAGGED.fullmatch(line):
        digest, path = found[2].lower(), found[1]
    elif line.startswith("\\") and _OTHER_SUM.fullmatch(line):
        # sha256sum escapes a name for a newline, a carriage return or a backslash in it.
        return "a file name with a newline or a backslash can't be stored"
    elif _OTHER_SUM.fullmatch(line):
        return "only sha256 digests are understood"
    else:
        digest, path = None, line
    return _parse_path(path, digest)


def _parse_path(path: str, digest: str | None) -> tuple[str, str | None] | str:
    if path.startswith("/"):
        return f"{printable(path)!r} is not relative to the run"
    parts = [part for part in path.split("/") if part not in {"", "."}]
    if ".." in parts or not parts:
        return f"{printable(path)!r} is no path in the run"
    for part in parts:
        if reason := refuse_component(part):
            return f"{printable(path)!r} can't be stored: {reason}"
    return "/".join(parts), digest


def _above(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts))]


def _refuse(reason: str) -> Refused:
    return Refused(MARKER, reason)
