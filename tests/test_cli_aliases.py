"""`promote` and `alias`, and what other commands tell of aliases."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from modeldrop_cli.objects.finding import ExperimentsObject, VersionsObject
from modeldrop_cli.objects.sharing import EntryObject
from modeldrop_cli.objects.using import AliasesObject, AliasHistoryObject, PromotedObject
from support import reference
from support.program import Program, in_process


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Program:
    return in_process(capsys)


@pytest.fixture
def home(run: Program, tmp_path: Path) -> Path:
    assert run("init").code == 0
    return tmp_path / ".mlops"


@pytest.fixture
def guid(home: Path, run: Program, tmp_path: Path) -> str:
    """A run of the experiment churn with two versions."""
    (tmp_path / "model.bin").write_bytes(b"weights")
    guid = run("drop", "--wait", "model.bin", "-e", "churn").out.strip()
    for more in ((), ("--again",)):
        assert run("register", guid, *more).code == 0
    return guid


def documented(value: object, kind: type) -> bool:
    """Say whether printed JSON is what docs/json.md says, showing the differences if not."""
    assert reference.differences(value, kind) == []
    return True


def test_promote_prints_the_alias_and_says_where_it_was(run: Program, guid: str) -> None:
    first = run("promote", "churn/1", "champion", "--by", "ann")
    assert (first.code, first.out) == (0, "churn@champion\n")
    assert first.err == "It is on churn/1 now; before it was on no version.\n"
    moved = run("promote", "churn", "champion", "--expect", "1", "--reason", "better")
    assert moved.err == "It is on churn/2 now; before it was on churn/1.\n"
    again = run("promote", "churn/2", "champion")
    assert (again.code, again.out) == (0, "churn@champion\n")
    assert "It is on churn/2 since 20" in again.err
    assert "nothing was changed" in again.err
    quiet = run("promote", "churn/2", "champion", "-q")
    assert (quiet.code, quiet.out, quiet.err) == (0, "churn@champion\n", "")
    whole = run("promote", "churn@champion", "champion", "--json").json
    assert documented(whole, PromotedObject)
    assert (whole["version"], whole["before"], whole["moved"]) == (2, 1, False)
    assert (whole["reason"], whole["move"]) == ("better", 2)


def test_promote_that_expected_another_version_exits_11_and_says_who_was_quicker(
    run: Program, guid: str
) -> None:
    run("promote", "churn/2", "champion", "--by", "ann", "--reason", "urgent")
    told = run("promote", "churn/1", "champion", "--expect", "3")
    assert (told.code, told.out) == (11, "")
    assert re.search(r"is on churn/2, and was expected on churn/3: ann@.* \(urgent\)", told.err)
    assert "Try: see `modeldrop alias history churn@champion`" in told.err
    error = run("promote", "churn/1", "champion", "--expect", "3", "--json").error
    assert (error["kind"], error["exit_code"]) == ("AliasMoved", 11)
    assert (error["detail"]["expected"], error["detail"]["version"]) == (3, 2)
    assert (error["detail"]["moved_by"], error["detail"]["reason"]) == ("ann", "urgent")
    for call, code in (
        (("promote", "churn/1", "latest"), 2),
        (("promote", "churn/1", "a..b"), 2),
        (("promote", guid, "champion"), 2),
        (("promote", "churn/1", "champion", "--expect", "-1"), 2),
        (("promote", "churn/9", "champion"), 10),
        (("promote", "churn@none", "champion"), 10),
        (("alias", "rm", "churn@champion", "--expect", "1"), 11),
        (("alias", "rm", "churn@none"), 10),
        (("alias", "rm", "churn"), 2),
        (("alias", "history", "churn@none"), 10),
        (("show", "churn@none"), 10),
    ):
        assert run(*call).code == code, call


def test_aliases_are_listed_with_who_when_and_why_and_their_history_stays(
    run: Program, guid: str
) -> None:
    assert "There is no alias" in run("alias", "list").err
    assert run("alias", "list", "--json").json == {"aliases": []}
    for call in (("churn/1", "old"), ("churn/1", "champion"), ("churn/2", "champion")):
        run("promote", *call, "--by", "ann", "--reason", f"{call[0]} it is")
    told = run("alias", "list", "churn")
    header, *rows = told.lines
    assert header.split() == ["ALIAS", "VERSION", "MOVED", "BY", "REASON"]
    assert [row.split()[:2] for row in rows] == [
        ["churn@champion", "churn/2"],
        ["churn@old", "churn/1"],
    ]
    assert "churn/2 it is" in rows[0]
    assert run("alias", "list", "-q").lines == ["churn@champion", "churn@old"]
    whole = run("alias", "list", "--json").json
    assert documented(whole, AliasesObject)
    assert [each["alias"] for each in whole["aliases"]] == ["champion", "old"]
    gone = run("alias", "rm", "churn@champion", "--reason", "done")
    assert gone.err == "It is removed now; before it was on churn/2.\n"
    assert "It is removed since 20" in run("alias", "rm", "churn@champion").err
    assert run("alias", "list", "-q").lines == ["churn@old"]
    header, *rows = run("alias", "history", "churn@champion").lines
    assert header.split() == ["MOVE", "VERSION", "MOVED", "BY", "REASON"]
    assert [row.split()[:2] for row in rows] == [
        ["3", "removed"],
        ["2", "churn/2"],
        ["1", "churn/1"],
    ]
    assert run("alias", "history", "churn@champion", "-q").lines == [
        f"churn@champion~{number}" for number in (3, 2, 1)
    ]
    whole = run("alias", "history", "churn@champion", "--json").json
    assert documented(whole, AliasHistoryObject)
    assert [each["version"] for each in whole["moves"]] == [None, 2, 1]


def test_list_show_and_log_tell_of_aliases(run: Program, guid: str) -> None:
    for alias in ("champion", "challenger"):
        run("promote", "churn/1", alias, "--reason", "first")
    newest, older = run("list", "churn").lines[1:]
    assert "challenger, champion" in older
    assert "champion" not in newest
    whole = run("list", "churn", "--json").json
    assert documented(whole, VersionsObject)
    assert [each["aliases"] for each in whole["versions"]] == [[], ["challenger", "champion"]]
    assert documented(run("list", "--json").json, ExperimentsObject)
    assert run("show", "churn@champion").lines[:2] == [
        "version     churn/1",
        "aliases     challenger, champion",
    ]
    assert run("show", "churn@champion", "-q").out == "churn/1\n"
    assert run("show", "churn/1", "--json").json["aliases"] == ["challenger", "champion"]
    told = run("log", "churn@champion")
    assert [line.split()[3:6] for line in told.lines] == [
        ["promoted", "churn@champion~1", "churn/1"]
    ]
    assert told.lines[0].endswith("first")
    streamed = [json.loads(line) for line in run("log", "churn@champion", "--json").lines]
    assert all(documented(each, EntryObject) for each in streamed)
    assert run("verify", "churn@champion").code == 0
    assert run("path", "churn@champion", "--json").json["reference"] == "churn/1"


def test_damaged_alias_is_said_and_hides_nothing_else(run: Program, home: Path, guid: str) -> None:
    for alias in ("champion", "old"):
        run("promote", "churn/1", alias)
    aliases = home / "model-repository/.modeldrop/experiments/churn/aliases"
    path = aliases / "champion/00000001.json"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes().replace(b'"move": 1', b'"move": 2'))
    for call, shown in (
        (("alias", "list"), "churn@old"),
        (("list", "churn"), "old"),
        (("show", "churn/1"), "aliases     old"),
    ):
        for more in ((), ("--json",)):
            told = run(*call, *more)
            assert told.code == 20, call
            assert "champion/00000001.json" in told.err
            assert (shown if not more else '"old"') in told.out
    registered = run("register", guid, "--json")
    assert (registered.code, registered.json["aliases"]) == (0, ["old"])
    assert "champion/00000001.json" in registered.err
