"""A shell whose commands are shown with what they print, as a person sees them."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path

from modeldrop.home import user_name

BIN = Path(sys.executable).parent
HELD_BACK = 60.0
_GUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
# As MLflow spells them.
_BARE_GUID = re.compile(r"\b[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}\b")
# What is imported is of 2020, and its dates stay.
_TIME = re.compile(r"(?!2020)\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d(\.\d+)?")
_FOREIGN = ("AWS_", "AZURE_", "MODELDROP_")


def clean_environment(home: Path) -> dict[str, str]:
    """Return an environment that leads to no real store and to no home but what is in `home`."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {**env, "HOME": str(home), "COLUMNS": "100"}


class Tidy:
    """Makes alike what differs from run to run: GUIDs, times, paths, people."""

    def __init__(self, *folders: Path) -> None:
        """Show each of these folders as `~/project`."""
        self._folders = [each for folder in folders for each in (folder.resolve(), folder)]
        self._names: dict[str, str] = {}

    def __call__(self, text: str) -> str:
        """Return the text made alike."""
        for folder in self._folders:
            text = text.replace(str(folder), "~/project")
        text = _TIME.sub(r"2026-03-14\g<1>09:26:53", _GUID.sub(self._alike, text))
        text = _BARE_GUID.sub(self._alike_bare, text)
        host = os.uname().nodename
        text = text.replace(f"{user_name()}@{host}", "ada@trainer-1")
        text = text.replace(f"@{host}", "@trainer-1")
        # The column is as wide as the name in it.
        return re.sub("BY +ALIASES", f"{'BY':13}  ALIASES", text)

    def _alike(self, found: re.Match[str]) -> str:
        return self._named(found[0])

    def _alike_bare(self, found: re.Match[str]) -> str:
        return self._named(str(uuid.UUID(found[0]))).replace("-", "")

    def _named(self, guid: str) -> str:
        number = len(self._names) + 1
        fixed = f"{0x3F2B8C1E + 0x1111111 * number:08x}-5d7a-4c0b-9a61-0f6e2d4b7a9{number:x}"
        return self._names.setdefault(guid, fixed)


@contextlib.contextmanager
def running_service(folder: Path, env: Mapping[str, str]) -> Iterator[None]:
    """Run modeldropd in a folder, and stop it as systemd would."""
    log = (folder / "modeldropd.log").open("wb")
    process = subprocess.Popen(
        [str(BIN / "modeldropd")], cwd=folder, env=env, stdout=log, stderr=log
    )
    try:
        yield
        process.send_signal(signal.SIGTERM)
        if process.wait(timeout=HELD_BACK) != 0:
            sys.exit(f"modeldropd exited with {process.returncode}")
    except BaseException:
        print((folder / "modeldropd.log").read_text(), file=sys.stderr)
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        log.close()
