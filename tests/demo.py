"""`make demo`: the main job, start to end, with the real programs, in a temporary folder.

Two models are trained (a line is fitted, in plain Python, and written as safetensors). One is
written into the staging folder as any training job would, the other put there by `modeldrop drop`.
The service stores them; they are registered, one is promoted, both are pulled back, checked to
predict the same, and verified. Exits 0 only if all of that is so.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from modeldrop.home import user_name
from support.servers import AzuriteServer, MotoServer

BIN = Path(sys.executable).parent
HELD_BACK = 60.0


def train(slope: float, points: int) -> dict[str, list[float]]:
    """Return the least-squares line through noisy points of a line with this slope."""
    xs = [i / points for i in range(points)]
    ys = [slope * x + 1 + 0.05 * ((i * 7919) % 13 - 6) / 6 for i, x in enumerate(xs)]
    mean_x, mean_y = sum(xs) / points, sum(ys) / points
    weight = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / sum(
        (x - mean_x) ** 2 for x in xs
    )
    return {"weight": [weight], "bias": [mean_y - weight * mean_x]}


def save(model: dict[str, list[float]], path: Path) -> None:
    """Write a model as safetensors: eight bytes of header size, a JSON header, the numbers."""
    header: dict[str, object] = {}
    data = b""
    for name, values in model.items():
        raw = struct.pack(f"<{len(values)}d", *values)
        header[name] = {
            "dtype": "F64",
            "shape": [len(values)],
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def load(path: Path) -> dict[str, list[float]]:
    """Return the model in a safetensors file of 64-bit floats."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    found = {}
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        found[name] = list(struct.unpack(f"<{(end - begin) // 8}d", data[begin:end]))
    return found


def predict(model: dict[str, list[float]], x: float) -> float:
    """Return what the line says at `x`."""
    return model["weight"][0] * x + model["bias"][0]


class Shell:
    """Runs commands as a person would, and shows them with what they print."""

    def __init__(self, folder: Path, env: dict[str, str], *, transcript: bool) -> None:
        self.folder = folder
        self.env = env
        self.transcript = transcript
        self._names: dict[str, str] = {}

    def say(self, text: str) -> None:
        """Show a line that isn't a command's."""
        print(self.tidy(text), flush=True)

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

    def tidy(self, text: str) -> str:
        """Return the text as it is, or with what differs from run to run made alike."""
        if not self.transcript:
            return text
        for folder in (self.folder.resolve(), self.folder):
            text = text.replace(str(folder), "~/project")
        text = re.sub(
            r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}", self._alike, text
        )
        times = r"\d{4}-\d\d-\d\d([T ])\d\d:\d\d:\d\d(\.\d+)?"
        text = re.sub(times, r"2026-03-14\g<1>09:26:53", text)
        for name in (user_name(), "ada"):
            text = text.replace(f"{name}@{os.uname().nodename}", "ada@trainer-1")
        # The column is as wide as the name in it.
        return re.sub("BY +ALIASES", f"{'BY':13}  ALIASES", text)

    def _alike(self, found: re.Match[str]) -> str:
        number = len(self._names) + 1
        fixed = f"{0x3F2B8C1E + 0x1111111 * number:08x}-5d7a-4c0b-9a61-0f6e2d4b7a9{number:x}"
        return self._names.setdefault(found[0], fixed)


@contextlib.contextmanager
def service(shell: Shell) -> Iterator[None]:
    """Run modeldropd beside the shell, and stop it as systemd would."""
    shell.say("$ modeldropd &")
    log = (shell.folder / "modeldropd.log").open("wb")
    process = subprocess.Popen(
        [str(BIN / "modeldropd")], cwd=shell.folder, env=shell.env, stdout=log, stderr=log
    )
    try:
        yield
        process.send_signal(signal.SIGTERM)
        if process.wait(timeout=HELD_BACK) != 0:
            sys.exit(f"demo: modeldropd exited with {process.returncode}")
    except BaseException:
        print((shell.folder / "modeldropd.log").read_text(), file=sys.stderr)
        raise
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        log.close()


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
    foreign = ("AWS_", "AZURE_", "MODELDROP_")
    env = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="modeldrop-demo-") as folder:
        # A home of the demo's own: nothing above or in the user's folder is looked at.
        env["HOME"] = folder
        env["COLUMNS"] = "100"
        with backend(options.backend, env) as arguments:
            demo(Shell(Path(folder), env, transcript=options.transcript), arguments)
    if not options.transcript:
        print(f"# done in {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
