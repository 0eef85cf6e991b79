"""Where create-if-absent doesn't hold: one home writes, and the others are told so."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from modeldrop import Repository, founding, layout
from modeldrop.admission import require_writer, writer_of
from modeldrop.backend import Backend, open_backend
from modeldrop.backend.local import LocalBackend
from modeldrop.doctor import diagnose
from modeldrop.errors import ConditionNotHeld, Conflict, NotTheWriter
from modeldrop.form import NEEDS, now
from modeldrop.layout import FORMAT_KEY, WRITER_KEY
from modeldrop.records import RepositoryRecord, WriterRecord
from modeldrop.structs import replace
from support.program import Program, in_process

RUN: Final = "3f2b8c1e-5d7a-4c0b-9a61-0f6e2d4b7a90"


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Program:
    """`modeldrop` in this process."""
    return in_process(capsys)


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    """The URL of a backend for a single writer, of another kind than WebDAV if asked for."""
    kind = getattr(request, "param", "webdav")
    return f"{request.getfixturevalue(f'{kind}_url')}/models"


@pytest.fixture
def backend(url: str) -> Iterator[Backend]:
    """Somebody who looks at the store, and is none of the homes."""
    with contextlib.closing(open_backend(url, {}, None)) as opened:
        yield opened


@pytest.fixture
def writer(url: str, run: Program, tmp_path: Path) -> Path:
    """The home that writes, with a version."""
    made = run("init", tmp_path / "first", "--backend", url, "--single-writer")
    assert made.code == 0, made.err
    root = tmp_path / "first" / ".mlops"
    model = tmp_path / "model.bin"
    model.write_bytes(b"weights")
    with Repository.open(root) as repository:
        repository.upload(RUN, model)
    assert run("--home", root, "register", RUN, "-e", "churn").code == 0
    return root


def everything(backend: Backend) -> dict[str, bytes]:
    # The bytes too: to overwrite what is there is to write. And rclone lists what a race left
    # behind, and what isn't there any more.
    found = {file.key: backend.read(file.key) for file in backend.walk("")}
    return {key: data for key, data in found.items() if data is not None}


def check_of(root: Path, name: str) -> tuple[str, str]:
    return next((each.result, each.what) for each in diagnose(root) if each.name == name)


@pytest.mark.parametrize("url", ["rclone_s3", "webdav"], indirect=True)
def test_a_second_home_reads_and_whatever_it_would_write_is_refused_by_name(
    url: str, backend: Backend, writer: Path, run: Program, tmp_path: Path
) -> None:
    first = Repository.open(writer).home
    before = everything(backend)
    made = run("clone", url, tmp_path / "second", "--single-writer")
    assert made.code == 0, made.err
    assert "Not shared" not in made.err
    root = tmp_path / "second" / ".mlops"

    assert run("--home", root, "list", "churn", "-q").lines == ["churn/1"]
    assert run("--home", root, "pull", "churn", "-o", tmp_path / "pulled").code == 0
    assert (tmp_path / "pulled" / "model.bin").read_bytes() == b"weights"
    assert run("--home", root, "fetch").code == 0

    dropped = tmp_path / "other.bin"
    dropped.write_bytes(b"others")
    assert run("--home", root, "drop", dropped, "-e", "churn").code == 0
    for asked in (
        ("register", RUN, "-e", "churn", "--again"),
        ("register", RUN, "-e", "another"),
        ("scan", "--once"),
        ("promote", "churn/1", "champion"),
        ("push",),
    ):
        told = run("--home", root, *asked)
        assert told.code == NotTheWriter.exit_code == 11, told.err
        assert first.id in told.err
        assert first.host in told.err
        assert "writer.json" in told.err
    with (
        Repository.open(root) as second,
        pytest.raises(NotTheWriter, match=f"single writer, the home {first.id}"),
    ):
        second.upload(RUN, dropped)
    assert everything(backend) == before
    result, what = check_of(root, "create if absent")
    assert result == "ok"
    assert what.startswith(f"the home {first.id} of {first.user} on {first.host} since")
    assert what.endswith("writes, and this one reads")

    # The first one is as free as it was.
    assert run("--home", writer, "register", RUN, "-e", "another").code == 0
    assert check_of(writer, "create if absent")[0] == "warning"


def test_a_second_init_says_who_writes_and_makes_a_home_to_read_with(
    url: str, writer: Path, run: Program, tmp_path: Path
) -> None:
    first = Repository.open(writer).home
    refused = run("init", tmp_path / "second", "--backend", url)
    assert refused.code == ConditionNotHeld.exit_code == 30
    assert first.id in refused.err
    assert not (tmp_path / "second" / ".mlops" / "home.json").exists()
    made = run("init", tmp_path / "second", "--backend", url, "--single-writer")
    assert made.code == 0, made.err
    assert made.lines[-1].endswith("writes, this one reads")
    assert first.id in made.lines[-1]


def test_when_the_writer_is_gone_for_good_another_home_takes_its_place(
    url: str, backend: Backend, writer: Path, run: Program, tmp_path: Path
) -> None:
    assert run("clone", url, tmp_path / "second", "--single-writer").code == 0
    root = tmp_path / "second" / ".mlops"
    backend.delete(WRITER_KEY)
    registered = run("--home", root, "register", RUN, "-e", "another", "-q")
    assert (registered.code, registered.lines) == (0, ["another/1"]), registered.err
    found = writer_of(backend)
    assert found is not None
    assert found.home == Repository.open(root).home.id
    assert run("--home", writer, "register", RUN, "-e", "third").code == 11


def test_a_race_that_was_won_by_luck_lets_no_second_home_write(
    run: Program, tmp_path: Path
) -> None:
    # On a folder, where it holds, as a store may look that lets two win now and then.
    place = str(tmp_path / "models")
    with contextlib.closing(open_backend(place, {}, None)) as backend:
        backend.prepare()
        there = WriterRecord("6c1f4b1a-0d53-4d55-8a43-7c1d0a3f5e21", "trainer-1", "ada", now())
        assert backend.create(WRITER_KEY, there.to_bytes())
        assert run("init", tmp_path / "refused", "--backend", place).code == 30
        made = run("init", tmp_path / "reads", "--backend", place, "--single-writer")
        assert made.code == 0, made.err
        assert writer_of(backend) == there
    dropped = tmp_path / "model.bin"
    dropped.write_bytes(b"weights")
    with Repository.open(tmp_path / "reads" / ".mlops") as reads, pytest.raises(NotTheWriter):
        reads.upload(RUN, dropped)


def test_where_it_holds_nobody_is_kept_from_writing(tmp_path: Path) -> None:
    dropped = tmp_path / "model.bin"
    for name in ("first", "second"):
        made, _ = Repository.init(
            tmp_path / name, backend=str(tmp_path / "models"), single_writer=True
        )
        with made:
            dropped.write_text(name)
            made.upload(RUN, dropped)
            assert writer_of(made.backend) is None


def test_the_service_of_a_second_home_ends_by_itself_and_says_why(
    url: str, backend: Backend, writer: Path, run: Program, tmp_path: Path
) -> None:
    first = Repository.open(writer).home
    assert run("clone", url, tmp_path / "second", "--single-writer").code == 0
    root = tmp_path / "second" / ".mlops"
    dropped = tmp_path / "other.bin"
    dropped.write_bytes(b"others")
    assert run("--home", root, "drop", dropped, "-e", "churn").code == 0
    before = everything(backend)
    ended = subprocess.run(
        [sys.executable, "-m", "modeldrop_daemon"],
        env=os.environ | {"MODELDROP_HOME": str(root)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == NotTheWriter.exit_code, ended.stderr
    assert first.id in ended.stderr
    assert everything(backend) == before


class Late(LocalBackend):
    """Has what another home writes just after it was looked for the first time."""

    def __init__(self, root: Path, key: str, data: bytes) -> None:
        super().__init__(root)
        self._late: dict[str, bytes] = {key: data}

    def read(self, key: str) -> bytes | None:
        found = super().read(key)
        if key in self._late:
            super().create(key, self._late.pop(key))
        return found


def test_of_two_that_claim_to_write_at_once_one_is_told(tmp_path: Path) -> None:
    with Repository.init(tmp_path / "home", backend=str(tmp_path / "store"))[0] as repository:
        home = repository.home
        alone = replace(home.config.backend, single_writer=True)
        home.config = replace(home.config, backend=alone)
        home.paths.probe.unlink(missing_ok=True)
        other = WriterRecord(RUN, "elsewhere", "ada", now())

        with pytest.raises(NotTheWriter, match="elsewhere"):
            require_writer(home, Late(tmp_path / "store", WRITER_KEY, other.to_bytes()))


def test_of_two_that_begin_a_repository_at_once_both_join_the_same(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    other = RepositoryRecord(RUN, now(), "ada", NEEDS)
    backend = Late(tmp_path / "store", FORMAT_KEY, other.to_bytes())

    assert founding._join(backend) == RUN


def test_key_of_a_single_writer_is_shared_once(tmp_path: Path, webdav_url: str) -> None:
    made, _ = Repository.init(tmp_path / "home", backend=webdav_url, single_writer=True)
    with made:
        key = made.create_key().key
        where = layout.numbered(layout.home_keys(made.home.id), 1)
        assert made.backend.read(where) == key.to_bytes()
        made.home.paths.key_record.unlink()

        with pytest.raises(Conflict, match="had a key and has lost it"):
            made.create_key()
        renewed = made.create_key(renew=True).key

        assert made.backend.read(where) == key.to_bytes()
        assert renewed.key == 2
