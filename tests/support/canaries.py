"""Secrets that sing when they are seen: planted in a test, looked for in all that is written."""

from __future__ import annotations

import base64
import contextlib
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path


class Canary:
    """One secret, of the form that the real ones have."""

    def __init__(self, name: str) -> None:
        """Make one that was never used before; `name` is what a failure calls it."""
        self.name = name
        self._core = f"cAnAry{secrets.token_hex(8)}"
        # With everything in it that is written otherwise in a URL; an Azure key has to be base64.
        self.value = f"wJa/{self._core}+bPxRfiCYz/8=="
        self._cores = {self._core.encode(), *_in_base64(self._core)}

    def __str__(self) -> str:
        """Return the secret."""
        return self.value

    def is_in(self, text: bytes) -> bool:
        """Return whether it is in a text, as it is, percent-encoded or in base64."""
        return any(core in text for core in self._cores)


class Known(Canary):
    """A secret that a test doesn't choose."""

    def __init__(self, name: str, value: str) -> None:
        """Take a secret that is long enough not to turn up by chance."""
        super().__init__(name)
        self.value = value
        self._cores = {value[4:-4].encode(), *_in_base64(value)}


def _in_base64(text: str) -> set[bytes]:
    """Return what base64 of anything with the text in it contains, wherever it begins."""
    found = set()
    for before in range(3):
        whole = base64.b64encode(b"\0" * before + text.encode())
        # Without the digits at either end that what is around the text has a share in.
        found.add(whole[4 if before else 0 : -4])
    return found


class Watch:
    """What was written, and whether a canary is in it."""

    def __init__(self, canaries: Iterable[Canary]) -> None:
        """Look for these."""
        self.canaries = tuple(canaries)

    def check(self, where: str, text: str | bytes) -> None:
        """Fail if one of them is in a text."""
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        seen = [canary.name for canary in self.canaries if canary.is_in(data)]
        assert not seen, f"{where} shows {', '.join(seen)}"

    def check_folder(self, folder: Path, but: Iterable[Path] = ()) -> None:
        """Fail if one of them is in a file or in the name of one, but for where it belongs."""
        spared = set(but)
        for path in folder.rglob("*"):
            self.check("a name", str(path))
            if path.is_file() and not path.is_symlink() and path not in spared:
                self.check(str(path), path.read_bytes())

    def check_objects(self, objects: Mapping[str, bytes]) -> None:
        """Fail if one of them is in an object or its key."""
        for key, data in objects.items():
            self.check("a key", key)
            self.check(key, data)

    def check_processes(self) -> None:
        """Fail if one of them is on the command line of any process of this machine."""
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                self.check(str(path), path.read_bytes())
