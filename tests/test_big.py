"""Large files pass through in bounded memory."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from modeldrop.intake import new_run
from support.children import run
from support.intake import make_home, scan_in_child

MIB = 2**20
MOST = 200
"""MiB of a process that stores a file of whatever size."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def make_big(path: Path, size: int) -> None:
    """Write a file in which no two MiB are alike; most of each is a hole."""
    with path.open("wb") as opened:
        for start in range(0, size, MIB):
            opened.seek(start)
            opened.write(start.to_bytes(8, "big") * 64)
        opened.truncate(size)


@pytest.mark.parametrize(
    ("backend", "size"),
    [
        ("local", 2048 * MIB),
        # moto keeps every object in its memory, some of it several times over: more of them
        # would measure the machine of the test, not the process that stores.
        ("s3", 512 * MIB),
    ],
)
def test_a_big_file_is_stored_in_bounded_memory(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str, size: int
) -> None:
    url = "" if backend == "local" else request.getfixturevalue(f"{backend}_url")
    with make_home(tmp_path / "home", url) as repository:
        dropped = new_run(repository.home.staging)
        make_big(repository.home.staging / dropped / "model", size)
        (repository.home.staging / dropped / "_SUCCESS").touch()
        found = run(scan_in_child, repository.home.paths.root)
        assert found["states"] == {dropped: "committed"}
        revision = repository.runs_at_backend.committed(dropped)
        assert [each.size for each in revision.artifacts] == [size]
        # Printed with -rP, and on failure.
        print(f"{backend}: {size // MIB} MiB, peak memory {found['peak']:.0f} MiB")  # noqa: T201
        assert found["peak"] < MOST
    shutil.rmtree(tmp_path / "home")
