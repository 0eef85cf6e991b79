"""One reader, given what hypothesis thinks of: `python -m support.fuzzing NAME SECONDS`.

It has a bounded memory and each input a bounded time. What a reader failed at is printed in base64,
to be put into `tests/fuzz/corpus/`, from where every later run begins.
"""

from __future__ import annotations

import base64
import hashlib
import resource
import secrets
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Final

from hypothesis import HealthCheck, given, seed, settings

from support.readers import READERS, Reader

CORPUS: Final = Path(__file__).parents[1] / "fuzz" / "corpus"

_MOST_SECONDS: Final = 20
"""How long one input may take, on a machine that is busy with others."""
_MOST_MEMORY: Final = 1 << 30
"""How many bytes a reader may take beyond what the process has when it begins."""
_BATCH: Final = 200


def kept(name: str) -> Iterator[tuple[str, bytes]]:
    """Yield what readers failed at before, or what is worth to be kept, by file."""
    for path in sorted((CORPUS / name.replace(" ", "-")).glob("*.b64")):
        yield path.name, base64.b64decode(path.read_bytes())


def given_each(reader: Reader, examples: int, start: int) -> int:
    """Give a reader so many inputs; return how many it was given."""
    count = 0

    @seed(start)
    @settings(
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(reader.inputs())
    def give(data: bytes) -> None:
        nonlocal count
        count += 1
        try:
            reader.read(data)
        except BaseException:
            # The last one that hypothesis shows is the smallest.
            print(f"failed at {named(data)}:\n{base64.b64encode(data).decode()}", file=sys.stderr)
            raise

    give()
    return count


def named(data: bytes) -> str:
    """Return the name of the file for an input."""
    return f"{hashlib.sha256(data).hexdigest()[:12]}.b64"


def bound() -> None:
    """Bound what this process may take from here on, until it is bound anew."""
    with open("/proc/self/statm", encoding="ascii") as file:
        has = int(file.read().split()[0]) * resource.getpagesize()
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (has + _MOST_MEMORY, hard))


def _main(name: str, seconds: float) -> int:
    reader = READERS[name]
    reader.inputs()
    bound()

    def too_long(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise TimeoutError

    signal.signal(signal.SIGALRM, too_long)
    until, count, start = time.monotonic() + seconds, 0, secrets.randbits(32)
    try:
        for file, data in kept(name):
            signal.alarm(_MOST_SECONDS)
            reader.read(data)
            print(f"{name}: {file} is read", file=sys.stderr)
        while time.monotonic() < until:
            start += 1
            # Of a batch, since hypothesis catches what comes of each.
            signal.alarm(_MOST_SECONDS * 10)
            # What hypothesis keeps from one batch to the next is none of the reader's.
            bound()
            count += given_each(reader, _BATCH, start)
    except BaseException:  # noqa: BLE001 - whatever it is, it was not documented
        traceback.print_exc()
        print(f"{name}: failed, with seed {start}, after {count} inputs", file=sys.stderr)
        return 1
    finally:
        signal.alarm(0)
    print(f"{name}: {count} inputs, none failed", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1], float(sys.argv[2])))
