"""Pages whose commands are run when they are generated: docs/guide/.

A page makes a `Page` in its first generated part, and shows with it, part by part, what a person
types and what that person sees, with a training job, `train.py`, in the folder. All parts of a
page are one session in one folder: files, the service and exported shell variables stay from one
to the next. A command that exits otherwise than the page says ends the generation.
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Final

from support import lines
from support.servers import AzuriteServer, MotoServer
from support.shell import BIN, Tidy, clean_environment, running_service

_SERVICE: Final = "modeldropd &"
# What makes every machine the same one.
_TRAINER: Final = Path(__file__).with_name("trainer")
# The bucket or container of each page.
_STORE: Final = "models"
# What a person's shell would remember of one command for the next.
_REMEMBERED: Final = "variables.sh"
_SCRIPT: Final = """\
. "{remembered}" 2>/dev/null
{command}
code=$?
export -p | grep -v PWD= > "{remembered}"
exit $code
"""


class Page:
    """One session, from the first command of a page to its last."""

    def __init__(self, store: str = "local") -> None:
        """Begin in an empty folder; with `s3` or `azure` clients are led to an emulator."""
        atexit.register(self.end)
        self._kept = contextlib.ExitStack()
        self._folder = Path(tempfile.mkdtemp(prefix="modeldrop-page-"))
        self._kept.callback(shutil.rmtree, self._folder)
        self._prompt = "$"
        self.project = self._folder / "first"
        self._move_in()
        self._tidy = Tidy(self.project, self._folder / "second")
        self._env = clean_environment(self._folder)
        self._env["PATH"] = f"{BIN}:{self._env['PATH']}"
        self._env["PYTHONPATH"] = str(_TRAINER)
        if store != "local":
            self._lead_to(store)

    def _lead_to(self, store: str) -> None:
        if store == "s3":
            moto = self._kept.enter_context(MotoServer())
            moto.make_bucket(_STORE)
            self._env.update(moto.env)
        else:
            azurite = self._kept.enter_context(AzuriteServer())
            azurite.make_container(_STORE)
            self._env.update(azurite.env)

    def goes_to_second_host(self) -> None:
        """Have what follows typed on another host, which shares nothing but the backend."""
        self._prompt = "second$"
        self.project = self._folder / "second"
        self._move_in()

    def _move_in(self) -> None:
        self.project.mkdir()
        shutil.copy(lines.__file__, self.project / "train.py")

    def end(self) -> None:
        """End the service and the servers, and remove what the session made."""
        self._kept.close()

    def shows(self, *commands: str, code: int = 0) -> None:
        """Print a block of commands with what each prints; the last one exits with `code`."""
        shown: list[str] = []
        for number, command in enumerate(commands, 1):
            shown.append(f"{self._prompt} {command}")
            if command == _SERVICE:
                self._kept.enter_context(running_service(self.project, self._env))
                continue
            printed = self._run(command, code if number == len(commands) else 0)
            shown += [printed] if printed else []
        print("```console\n" + "\n".join(shown) + "\n```")

    def writes(self, path: str, text: str) -> None:
        """Print a file's text, and write it."""
        text = textwrap.dedent(text).strip("\n") + "\n"
        target = self.project / self._run(f"echo {path}", 0, tidied=False)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
        print(f"```{target.suffix.removeprefix('.')}\n{text}```")

    def runs_python(self, text: str) -> None:
        """Print a program and, if it prints anything, what; it is run by this Python."""
        text = textwrap.dedent(text).strip("\n") + "\n"
        done = subprocess.run(
            [sys.executable, "-"],
            input=text,
            cwd=self.project,
            env=self._env,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"a program of the page failed:\n{text}\n{done.stderr}")
        print(f"```python\n{text}```")
        if done.stdout:
            print(f"\n```text\n{self._tidy(done.stdout)}```")

    def _run(self, command: str, code: int, *, tidied: bool = True) -> str:
        remembered = self._folder / _REMEMBERED
        done = subprocess.run(
            ["bash", "-c", _SCRIPT.format(remembered=remembered, command=command)],
            cwd=self.project,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            # As on a terminal: in the order in which they are printed.
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != code:
            sys.exit(f"$ {command}\n{done.stdout}exited with {done.returncode}, not {code}")
        # A slow machine makes a command say what it waits for; that is no part of the page.
        said = [line for line in done.stdout.splitlines() if "still waiting" not in line]
        printed = "\n".join(line.rstrip() for line in said)
        return self._tidy(printed) if tidied else printed
