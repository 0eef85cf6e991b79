"""`make demo`: the main job, start to end, with the real programs, in a temporary folder.

Two models are trained (a line is fitted, in plain Python, and written as safetensors). One is
written into the staging folder as any training job would, the other put there by `modeldrop drop`.
The service stores them; they are registered, one is promoted, both are pulled back, checked to
predict the same, and verified. Exits 0 only if all of that is so.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from support.lines import load, predict, save, train
from support.servers import AzuriteServer, MotoServer
from support.shell import BIN, Tidy, clean_environment, running_service


class Shell:
    """Runs commands as a person would, and shows them with what they print."""

    def __init__(self, folder: Path, env: dict[str, str], *, transcript: bool) -> None:
        self.folder = folder
        self.env = env
        self.transcript = transcript
        self._tidy = Tidy(folder)

    def say(self, text: str) -> None:
        """Show a line that isn't a command's; in a transcript, the same one every time."""
        print(self._tidy(text) if self.transcript else text, flush=True)

    def run(self, *words: str) -> str:
        """Run a program of ours; return what it printed to stdout."""
        self.say(f"$ {shlex.join(words)}")
        done = subprocess.run(
            [str(BIN / words[0]), *words[1:]],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            # On a terminal both are seen; a transcript has to take them itself.
            stderr=subprocess.PIPE if self.transcript else None,
            text=True,
            check=False,
        )
        # A slow machine makes a command say what it waits for; that is no part of the transcript.
        told = [line for line in (done.stderr or "").splitlines() if "still waiting" not in line]
        if told:
            self.say("\n".join(told))
        if done.stdout:
            self.say(done.stdout.rstrip("\n"))
        if done.returncode != 0:
            sys.exit(f"demo: {words[0]} exited with {done.returncode}")
        return done.stdout.strip()


@contextlib.contextmanager
def service(shell: Shell) -> Iterator[None]:
    """Run modeldropd beside the shell."""
    shell.say("$ modeldropd &")
    with running_service(shell.folder, shell.env):
        yield


@contextlib.contextmanager
def backend(name: str, env: dict[str, str]) -> Iterator[list[str]]:
    """Start what the backend needs; yield what `init` is told, and lead clients to it by `env`."""
    if name == "local":
        yield []
        return
    with MotoServer() if name == "s3" else AzuriteServer() as server:
        env.update(server.env)
        url = server.make_bucket() if isinstance(server, MotoServer) else server.make_container()
        yield ["--backend", f"{url}/models"]


def demo(shell: Shell, arguments: list[str]) -> None:
    """Do the main job once."""
    folder = shell.folder
    shell.run("modeldrop", "init", *arguments)
    with service(shell):
        run = shell.run("modeldrop", "run", "new", "-e", "churn")
        staging = folder / ".mlops" / "staging"
        first = train(2.0, 200)
        shell.say(f"$ python train.py --out .mlops/staging/{run}")
        save(first, staging / run / "model.safetensors")
        shell.say(f"$ touch .mlops/staging/{run}/_SUCCESS")
        (staging / run / "_SUCCESS").touch()
        shell.run("modeldrop", "register", run, "--wait", "--by", "ada")
        second = train(2.0, 2000)
        save(second, folder / "model.safetensors")
        shell.run("modeldrop", "drop", "model.safetensors", "-e", "churn", "--wait")
        described = ("--by", "ada", "--description", "ten times the data")
        shell.run("modeldrop", "register", "run:@last", *described)
        better = ("--by", "ada", "--reason", "closer to the line")
        shell.run("modeldrop", "promote", "churn/2", "champion", *better)
        shell.run("modeldrop", "list", "churn")
        for version, model in (("churn/1", first), ("churn@champion", second)):
            pulled = shell.run("modeldrop", "pull", version, "-o", f"serving/{version}")
            if predict(load(folder / pulled), 0.5) != predict(model, 0.5):
                sys.exit(f"demo: {version} doesn't predict what it did")
        shell.run("modeldrop", "verify", "--deep")
        shell.run("modeldrop", "log")
    shell.say("# pulled models predict what the trained ones did; every stored byte is verified")


def main() -> None:
    """Run the demo in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--backend", choices=("local", "s3", "azure"), default="local")
    parser.add_argument("--transcript", action="store_true", help="the same text every time")
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="modeldrop-demo-") as folder:
        # A home of the demo's own: nothing above or in the user's folder is looked at.
        env = clean_environment(Path(folder))
        with backend(options.backend, env) as arguments:
            demo(Shell(Path(folder), env, transcript=options.transcript), arguments)
    if not options.transcript:
        print(f"# done in {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
