"""`make fuzz`: every reader of what others wrote, each in a process of its own, for a while.

FUZZ_SECONDS is the time for all of them, 300 if it isn't set; FUZZ names some, as `FUZZ="records"`.
Two of them run at a time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from support.program import environment
from support.readers import READERS

_SECONDS: Final = 300.0
_AT_ONCE: Final = 2
# How much longer a reader's process may take than it was given, on a machine that is busy.
_PATIENCE: Final = 300.0


def fuzz(name: str, seconds: float) -> bool:
    """Fuzz one reader; return whether it failed at nothing."""
    command = [sys.executable, "-m", "support.fuzzing", name, str(seconds)]
    path = os.pathsep.join([*sys.path[1:], os.environ.get("PYTHONPATH", "")])
    try:
        done = subprocess.run(
            command,
            env={**environment(), "PYTHONPATH": path},
            check=False,
            timeout=seconds + _PATIENCE,
        )
    except subprocess.TimeoutExpired:
        print(f"{name}: it came to no end", file=sys.stderr)
        return False
    return done.returncode == 0


def main() -> int:
    """Fuzz what was asked for."""
    names = [each.strip() for each in os.environ.get("FUZZ", "").split(",") if each.strip()]
    unknown = [each for each in names if each not in READERS]
    if unknown:
        print(f"there is no reader {unknown[0]!r}: {', '.join(READERS)}", file=sys.stderr)
        return 2
    names = names or list(READERS)
    seconds = float(os.environ.get("FUZZ_SECONDS") or _SECONDS) * _AT_ONCE / len(names)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        done = list(pool.map(lambda name: fuzz(name, seconds), names))
    return 0 if all(done) else 1


if __name__ == "__main__":
    sys.exit(main())
