"""What lies outside of staging, and whether anybody read it."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path


class Outside:
    """A file and a folder that links lead to and that nobody must read."""

    SECRET = b"outside of staging"

    def __init__(self, folder: Path) -> None:
        """Make them in a new folder."""
        folder.mkdir()
        self.file = folder / "secret"
        self.folder = folder / "secrets"
        self.folder.mkdir()
        self.file.write_bytes(self.SECRET)
        (self.folder / "secret").write_bytes(self.SECRET)
        # Whoever opens it, and doesn't ask not to be held up, hangs.
        self.trap = self.folder / "trap"
        os.mkfifo(self.trap)

    @contextlib.contextmanager
    def unread(self) -> Iterator[None]:
        """Check that meanwhile nobody reads the files or lists the folder."""
        watched = (self.file, self.folder, self.folder / "secret")
        # An access older than the change: then every mount but `noatime` notes the next one.
        for path in watched:
            os.utime(path, (0, path.stat().st_mtime))
        yield
        assert {path: path.stat().st_atime for path in watched} == dict.fromkeys(watched, 0.0)


# Root reads everything by these two capabilities, and by nothing else.
AS_THE_MODES_SAY = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
"""Runs a command of root's for which the modes of files hold as for everybody else."""
