"""`modeldrop push`, `fetch` and `clone`, and what other commands share at their end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from modeldrop import locks
from modeldrop.layout import HomePaths
from modeldrop.repository import Repository
from modeldrop_cli.objects.sharing import FetchObject, PushObject
from modeldrop_cli.objects.starting import CloneObject
from support import reference
from support.program import Program, in_process
from support.sharing import host, note, store
from support.stores import model


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Program:
    return in_process(capsys)


@pytest.fixture
def backend(tmp_path: Path) -> Path:
    return tmp_path / "backend"


@pytest.fixture
def home(run: Program, tmp_path: Path, backend: Path) -> Path:
    """A home that was made by the program."""
    assert run("--home", tmp_path / "ada", "init", "--backend", backend).code == 0
    return tmp_path / "ada"


def shared(backend: Path) -> list[str]:
    """Return the kinds of all entries that are at the backend, in their order."""
    found = sorted((backend / ".modeldrop/journals").glob("*/*.jsonl"))
    return [json.loads(line)["kind"] for path in found for line in path.read_bytes().splitlines()]


def test_commands_that_write_share_at_their_end(
    run: Program, home: Path, backend: Path, tmp_path: Path
) -> None:
    assert shared(backend) == ["home-created"]
    path = model(tmp_path / "model.bin", "weights")
    guid = run("--home", home, "drop", path, "--wait", "-q").lines[0]
    assert shared(backend) == ["home-created", "committed"]
    run("--home", home, "register", guid, "-e", "churn")
    assert shared(backend) == ["home-created", "committed", "registered"]
    model(tmp_path / "model.bin", "others")
    run("--home", home, "drop", path)
    run("--home", home, "scan", "--once")
    assert shared(backend) == ["home-created", "committed", "registered", "committed"]
    assert run("--home", home, "push", "--json").json["entries"] == 0


@pytest.mark.parametrize("how", [(), ("--json",), ("-q",)])
def test_command_whose_share_fails_has_done_its_work_and_says_so(
    run: Program, home: Path, backend: Path, tmp_path: Path, how: tuple[str, ...]
) -> None:
    path = model(tmp_path / "model.bin", "weights")
    guid = run("--home", home, "drop", path, "--wait").lines[0]
    # Where the folder of journals should be is a file.
    journals = backend / ".modeldrop/journals"
    journals.rename(tmp_path / "kept")
    journals.write_text("")

    told = run("--home", home, "register", guid, "-e", "churn", *how)

    assert told.code == 0
    assert (told.json["version"] if how == ("--json",) else told.lines) in (1, ["churn/1"])
    assert told.err.startswith("Not shared with other hosts yet, the next push does it: ")
    journals.unlink()
    (tmp_path / "kept").rename(journals)
    assert run("--home", home, "push", "--json").json["entries"] == 1
    assert shared(backend) == ["home-created", "committed", "registered"]


def test_command_leaves_sharing_to_who_is_at_it(
    run: Program, home: Path, backend: Path, tmp_path: Path
) -> None:
    path = model(tmp_path / "model.bin", "weights")
    with locks.hold(HomePaths(home).push_lock(), what="sharing"):
        told = run("--home", home, "drop", path, "--wait")
        assert (told.code, "shared" in told.err) == (0, False)
    assert shared(backend) == ["home-created"]


def test_push_tells_how_much_was_shared(run: Program, home: Path) -> None:
    with Repository.open(home) as repository:
        note(repository, "one", "two")
        told = run("--home", home, "push", "--json")
        assert told.json == {
            "home": repository.home.id,
            "entries": 2,
            "segments": 1,
            "seq": 3,
        }
        assert reference.differences(told.json, PushObject) == []
        note(repository, "three")
    assert run("--home", home, "push").err == "Shared 1 entry.\n"
    assert run("--home", home, "push").err == "There was nothing to share.\n"
    assert run("--home", home, "push", "-q").lines == ["4"]


def test_fetch_tells_of_each_home_and_log_tells_of_all(
    run: Program, home: Path, backend: Path, tmp_path: Path
) -> None:
    assert "No other home" in run("--home", home, "fetch").err
    with host(tmp_path / "bob", str(backend)) as bob:
        version = store(bob, "of bob")
        bob.push()
        theirs = bob.home.id
    assert run("--home", home, "fetch", "-q").lines == [theirs]
    told = run("--home", home, "fetch", "--json")
    assert reference.differences(told.json, FetchObject) == []
    (journal,) = told.json["journals"]
    assert (journal["home"], journal["entries"], journal["seq"]) == (theirs, 0, 3)
    assert run("--home", home, "fetch").lines[0].split() == ["HOME", "HOST", "NEW", "ENTRIES"]

    assert run("--home", home, "log", "-q").lines == [
        *(f"{theirs}/{seq}" for seq in (3, 2, 1)),
        "1",
    ]
    shown = run("--home", home, "show", version)
    assert f"@{journal['host']}" in shown.out
    listed = run("--home", home, "list", "churn", "--json").json["versions"]
    assert [each["host"] for each in listed] == [journal["host"]]


def test_clone_makes_a_home_and_goes_on_where_it_was_interrupted(
    run: Program, home: Path, backend: Path, tmp_path: Path
) -> None:
    with Repository.open(home) as repository:
        store(repository, "one")
        repository.push()
    told = run("clone", backend, tmp_path / "eve", "--json")
    assert told.code == 0
    assert reference.differences(told.json, CloneObject) == []
    assert told.json["home"] == str(tmp_path / "eve/.mlops")
    assert [each["entries"] for each in told.json["journals"]] == [3]
    again = run("clone", backend, tmp_path / "eve", "--json")
    assert again.json == {
        **told.json,
        "journals": [{**each, "entries": 0} for each in told.json["journals"]],
    }
    assert run("--home", tmp_path / "eve/.mlops", "list", "-q").lines == ["churn"]
    assert len(run("--home", tmp_path / "eve/.mlops", "log").lines) == 4


def test_clone_of_nothing_is_told_as_such(run: Program, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    told = run("clone", tmp_path / "empty", tmp_path / "eve", "--json")
    assert (told.code, told.error["kind"]) == (10, "NotFound")
    assert "modeldrop init" in told.error["hint"]


def test_restored_home_is_told_of_its_new_id(run: Program, home: Path) -> None:
    paths = HomePaths(home)
    kept = {path: path.read_bytes() for path in (paths.journal, paths.head, paths.pushed)}
    with Repository.open(home) as repository:
        note(repository, "a life that was lost")
        repository.push()
        old = repository.home.id
        for path, data in kept.items():
            path.write_bytes(data)
        note(repository, "another one")
    told = run("--home", home, "push")
    assert told.code == 0
    assert f"it was {old}, and is " in told.err
    assert run("--home", home, "log", "--json", "-n", "1").json["kind"] == "home-copied"


def test_changed_journals_are_all_told(
    run: Program, home: Path, backend: Path, tmp_path: Path
) -> None:
    homes = []
    for name in ("bob", "eve"):
        with host(tmp_path / name, str(backend)) as other:
            other.push()
            homes.append(other.home.id)
    run("--home", home, "fetch")
    for each in homes:
        (backend / f".modeldrop/journals/{each}/00000001.jsonl").unlink()
    told = run("--home", home, "fetch", "--json")
    assert (told.code, told.error["kind"]) == (20, "JournalChanged")
    assert all(each in told.error["message"] for each in homes)
    assert [each["trouble"] is None for each in told.json["journals"]] == [False, False]
