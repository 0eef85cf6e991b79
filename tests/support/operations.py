"""The generated parts of docs/operations.md."""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

# Of each state, what it means and what there is to do; a test holds it against the engine's.
STATES: Final[dict[str, tuple[str, str]]] = {
    "open": ("files arrive, or a temporary file holds the run open", "nothing; `_SUCCESS` ends it"),
    "settling": ("nothing has changed lately; the quiet time runs", "nothing"),
    "uploading": ("its bytes are being sent", "nothing; what stops goes on after a restart"),
    "verifying": ("its bytes are being compared with what was hashed", "nothing"),
    "committed": ("stored: bytes, manifest, journal", "nothing"),
    "kept": ("stored, and left in staging with a receipt", "remove it when you like"),
    "moved": ("stored, and moved to `done/` in staging", "remove it when you like"),
    "deleted": ("stored, compared again, and removed from staging", "nothing"),
    "blocked": (
        "something is in the way that may pass: the backend, its credentials, the disk, a mode",
        "see to the reason in `modeldrop status`; it is tried for ever, `modeldrop retry RUN` now",
    ),
    "parked": (
        "it can't be stored as it is: a digest that is wrong, more files than `most_files`",
        "mend it in staging, then `modeldrop retry RUN`; or `modeldrop ignore RUN`",
    ),
    "ignored": ("somebody said that it is not to be stored", "`modeldrop retry RUN` undoes that"),
    "junk": (
        "an entry of staging that is no run: a loose file, a link, a name that is no GUID",
        "remove it, or move it into a run (`modeldrop drop PATH`); it is never touched",
    ),
}

_ALIKE: Final = (
    (r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "403c9d2f-5d7a-4c0b-9a61-0f6e2d4b7a91"),
    (r"\d{4}-\d\d-\d\dT[0-9:.]+Z", "2026-03-14T09:26:53Z"),
    (r"\d+ MiB free", "74525 MiB free"),
    (r"watches \d+", "watches 65536"),
    (r"\w+ can read them", "ada can read them"),
)


def states() -> None:
    """Print the table of all states; for cog."""
    print("| state | means | what to do |\n|---|---|---|")
    for state, (means, todo) in STATES.items():
        print(f"| `{state}` | {means} | {todo} |")


def doctor() -> None:
    """Print what `modeldrop doctor` says of a home whose staging everybody may write to."""
    with tempfile.TemporaryDirectory() as above:
        folder = Path(above) / "project"
        folder.mkdir()
        env = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        env["HOME"] = above

        def say(*arguments: str) -> str:
            command = [sys.executable, "-m", "modeldrop_cli", *arguments]
            return subprocess.run(
                command, cwd=folder, env=env, capture_output=True, text=True, check=False
            ).stdout

        say("init", "--staging", str(folder / "staging"))
        (folder / "staging").chmod(0o777)
        said = say("doctor").replace(above, "~")
    for pattern, same in _ALIKE:
        said = re.sub(pattern, same, said)
    print(f"```console\n$ modeldrop doctor\n{said.rstrip()}\n```")
