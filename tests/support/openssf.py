"""OpenSSF's tool for signatures of models, in an environment of its own: `make model-signing`."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

_PROGRAM: Final = Path(__file__).parents[2] / ".venv" / "model-signing" / "bin" / "model_signing"


def is_missing() -> str | None:
    """Return how to get the tool, if it isn't there."""
    return None if _PROGRAM.exists() else "model-signing isn't installed: `make model-signing`"


def sign(model: Path, private: Path, signature: Path, *options: str) -> None:
    """Have the tool sign a file or a folder."""
    code, said = _run("sign", model, signature, "--private_key", private, *options)
    assert code == 0, said


def verify(model: Path, public: Path, signature: Path, *options: str) -> tuple[bool, str]:
    """Return whether the tool takes a signature for right, and what it says."""
    code, said = _run("verify", model, signature, "--public_key", public, *options)
    return code == 0, said


def _run(what: str, model: Path, signature: Path, *options: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        [_PROGRAM, what, "key", model, "--signature", signature, *options],
        check=False,
        capture_output=True,
        text=True,
        timeout=110,
        env={**os.environ, "HOME": str(signature.parent)},
    )
    return done.returncode, done.stdout + done.stderr
