"""Readers of what others wrote raise only what they document; `make fuzz` goes on for longer."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from modeldrop.imports.unpacking import BundleFile
from support import fuzzing
from support.format_examples import RUN
from support.readers import READERS, Reader
from support.readers import bundle as made_bundle

# A world is made for it, and each input is asked about by a dozen questions.
_SLOW = "stores"
_KEPT = [(name, file) for name in READERS for file, _ in fuzzing.kept(name)]


@pytest.mark.parametrize(
    "name",
    [pytest.param(each, marks=pytest.mark.slow if each == _SLOW else ()) for each in READERS],
)
def test_reader_raises_only_what_it_documents(name: str) -> None:
    given = fuzzing.given_each(READERS[name], 5 if name == _SLOW else 60, start=6)
    assert given >= 5


@pytest.mark.parametrize(("name", "file"), _KEPT)
def test_what_a_reader_failed_at_once_is_read(name: str, file: str) -> None:
    READERS[name].read(dict(fuzzing.kept(name))[file])


def test_bundle_that_is_made_here_is_read_whole(tmp_path: Path) -> None:
    """Otherwise each of its changes would end at the same refusal."""
    path = tmp_path / "bundle.tar"
    path.write_bytes(made_bundle())
    with contextlib.closing(BundleFile(path)) as found:
        assert [run.run for run in found.runs()] == [RUN]
        assert [each.name for each in found.experiments()] == ["churn"]


def test_reader_that_raises_something_else_is_a_failure(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def read(data: bytes) -> None:
        if data:
            raise KeyError(data)

    with pytest.raises(KeyError):
        fuzzing.given_each(Reader(read, READERS["markers"].inputs), 50, start=1)
    assert "failed at" in capsys.readouterr().err
