"""What the README shows of a real run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def transcript() -> None:
    """Print what `make demo` shows, as a code block, with what differs each time made alike."""
    demo = Path(__file__).parents[1] / "demo.py"
    done = subprocess.run(
        [sys.executable, str(demo), "--transcript"], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(done.stderr)
    print(f"```console\n{done.stdout.rstrip()}\n```")
