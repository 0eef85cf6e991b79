"""A record that can't be read is told, and the others are returned; with no listener it raises."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modeldrop import Repository, layout
from modeldrop.errors import (
    AliasNotFound,
    ArtifactDamaged,
    DeploymentNotFound,
    IntegrityError,
    InvalidName,
    RecordDamaged,
    TargetNotFound,
)
from modeldrop.records import Collection
from modeldrop.structs import replace
from modeldrop_cli.main import main
from support import letting
from support.deploying import store_folder
from support.format_examples import EXAMPLES
from support.sharing import host, store
from support.stores import RUN, commit


@pytest.fixture
def backend(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def repository(tmp_path: Path, backend: Path) -> Iterator[Repository]:
    """A home in the working folder: two experiments, two aliases, two targets, one of each live."""
    with host(tmp_path / ".mlops", str(backend)) as made:
        for experiment in ("churn", "fraud"):
            for number in (1, 2):
                store_folder(made, f"{experiment} {number}", experiment)
        for name in ("a", "b"):
            made.add_target(f"target-{name}", tmp_path / name)
            made.deploy("churn/1", f"target-{name}")
            made.deploy("churn/2", f"target-{name}")
            made.promote("churn/1", f"alias-{name}")
        yield made


class Told(list[IntegrityError]):
    """Whoever is told of what can't be read."""


def spoil(backend: Path, key: str) -> None:
    """Flip a bit of a record."""
    path = backend / key
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


VERSION = layout.numbered(layout.versions("churn"), 2)
DEPLOYMENT = layout.numbered(layout.deployments("churn", "target-a"), 2)
TARGET = layout.numbered(layout.target("target-a"), 1)
MOVE = layout.numbered(layout.moves("churn", "alias-a"), 1)


@pytest.mark.parametrize(
    ("key", "ask", "left"),
    [
        pytest.param(
            VERSION, lambda repository, told: repository.experiments(told), 1, id="newest"
        ),
        pytest.param(
            VERSION, lambda repository, told: repository.versions("churn", told), 1, id="versions"
        ),
        pytest.param(
            DEPLOYMENT,
            lambda repository, told: repository.deployments("churn", damaged=told),
            1,
            id="deployments",
        ),
        pytest.param(TARGET, lambda repository, told: repository.targets(told), 1, id="targets"),
        pytest.param(
            MOVE, lambda repository, told: repository.aliases("churn", told), 1, id="aliases"
        ),
    ],
)
def test_one_record_that_is_damaged_is_told_and_the_others_are_returned(
    repository: Repository,
    backend: Path,
    key: str,
    ask: Callable[[Repository, Callable[[IntegrityError], None] | None], list[object]],
    left: int,
) -> None:
    spoil(backend, key)
    told = Told()

    assert len(ask(repository, told.append)) == left
    assert key in told[0].message
    with pytest.raises(RecordDamaged):
        ask(repository, None)


@pytest.mark.parametrize(
    ("key", "command", "left"),
    [
        pytest.param(VERSION, ["list"], "fraud", id="list"),
        pytest.param(DEPLOYMENT, ["deployments"], "churn@target-b~2", id="deployments"),
        pytest.param(TARGET, ["target", "list"], "target-b", id="target-list"),
    ],
)
def test_command_that_lists_shows_the_others_and_exits_with_20(
    repository: Repository,
    backend: Path,
    key: str,
    command: list[str],
    left: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    spoil(backend, key)

    assert main(command) == IntegrityError.exit_code

    said = capsys.readouterr()
    assert left in said.out
    assert key in said.err


def test_several_that_are_damaged_are_counted(
    repository: Repository, backend: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        spoil(backend, layout.numbered(layout.target(f"target-{name}"), 1))

    assert main(["target", "list"]) == IntegrityError.exit_code

    assert "2 records can't be read, such as: " in capsys.readouterr().err


def test_record_that_stands_in_the_place_of_another_is_damage(
    repository: Repository, backend: Path, tmp_path: Path
) -> None:
    for keep in (1, 2):
        repository.add_target("moved", tmp_path / "moved", keep=keep)
    repository.retire("fraud/1")
    repository.unretire("fraud/1")
    run = repository.resolve("churn/1").revision.run
    store(repository, "another", "other")
    rooms: dict[str, Callable[[], object]] = {
        layout.deployments("churn", "target-a"): lambda: (
            repository.deployments_at_backend.deployment("churn", "target-a", 1)
        ),
        layout.target("moved"): lambda: repository.targets_at_backend.record("moved", 1),
        layout.retirements("fraud", 1): lambda: repository.retirements_at_backend.record(
            "fraud", 1, 1
        ),
    }
    for folder, read in rooms.items():
        first, second = (backend / layout.numbered(folder, number) for number in (1, 2))
        first.write_bytes(second.read_bytes())
        with pytest.raises(IntegrityError, match="says that it is"):
            read()
    manifest = backend / layout.numbered(layout.revisions(run), 1)
    assert manifest.exists()
    with pytest.raises(IntegrityError, match="says that it is"):
        repository.runs_at_backend.parse(manifest.read_bytes(), 2)


def test_mark_of_another_number_is_damage(repository: Repository, backend: Path) -> None:
    repository.retire("fraud/1")
    run = repository.resolve("fraud/1").revision.run
    letting.collect(repository, 60)
    numbers = repository.runs_at_backend.collections.numbers(run)
    data = (backend / layout.numbered(layout.collections(run), numbers[0])).read_bytes()

    with pytest.raises(IntegrityError, match="says that it is"):
        repository.runs_at_backend.collections.parse(data, run, numbers[0] + 1)


def test_record_that_was_asked_for_by_its_number_and_is_not_there_is_not_found(
    repository: Repository,
) -> None:
    with pytest.raises(DeploymentNotFound, match="there is no deployment churn@target-a~9"):
        repository.deployments_at_backend.deployment("churn", "target-a", 9)
    with pytest.raises(TargetNotFound, match="there is no target:target-a~9"):
        repository.targets_at_backend.record("target-a", 9)
    with pytest.raises(IntegrityError, match="is missing"):
        repository.retirements_at_backend.record("fraud", 1, 9)


def test_who_only_reads_what_is_live_needs_no_counter(repository: Repository) -> None:
    counter = repository.home.paths.counter("churn+target-a")
    assert counter.exists()
    counter.write_bytes(b"nothing that anybody wrote")

    live = repository.deployments("churn", "target-a")[-1]

    assert (live.deployment, live.version) == (2, 2)


def test_rebuild_makes_what_is_whole_again_and_names_what_is_not(
    repository: Repository, backend: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit(repository, {"model": "weights"}, RUN)
    spoil(backend, DEPLOYMENT)
    repository.home.paths.journal.unlink()
    repository.home.paths.head.unlink()
    repository.close()

    code = main(["rebuild"])

    said = capsys.readouterr()
    assert code == 3
    assert DEPLOYMENT in said.err
    assert "The journal was rebuilt" in said.err + said.out


def test_status_of_targets_is_told_in_every_form(
    repository: Repository, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["target", "list", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["target"] for each in told["targets"]] == ["target-a", "target-b"]
    assert told["targets"][0]["url"] == str(tmp_path / "a")
    assert main(["target", "list", "-q"]) == 0
    assert capsys.readouterr().out == "target-a\ntarget-b\n"
    assert main(["target", "add", "target-c", str(tmp_path / "c"), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert (made["target"], made["changed"]) == ("target-c", True)
    with pytest.raises(InvalidName, match="keeps one copy at least"):
        repository.add_target("target-d", tmp_path / "d", keep=0)

    assert main(["deployments", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [each["target"] for each in told["deployments"]] == ["target-a", "target-b"]
    assert main(["deploy", "churn/2", "target-a"]) == 0
    assert "nothing was changed" in capsys.readouterr().err


def test_home_without_targets_says_how_to_make_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with host(tmp_path / ".mlops", ""):
        assert main(["target", "list"]) == 0
    assert "`modeldrop target add NAME URL` makes one" in capsys.readouterr().err


# What `verify` says of deployments


def found_by_verify(repository: Repository) -> dict[str, str]:
    return {each.where: each.what for each in repository.verify().findings}


def rewrite(repository: Repository, **changes: object) -> None:
    """Write what is live at target-a anew, as a whole record that says something else."""
    live = repository.deployments("churn", "target-a")[-1]
    record = replace(live, **changes)  # type: ignore[arg-type] # as they are named
    repository.backend.replace(DEPLOYMENT, record.to_bytes())


def test_deployment_above_a_damaged_one_is_not_blamed(
    repository: Repository, backend: Path
) -> None:
    spoil(backend, layout.numbered(layout.deployments("churn", "target-a"), 1))

    assert list(found_by_verify(repository)) == ["churn@target-a~1"]


def test_deployment_that_names_another_version_as_live_before_is_found(
    repository: Repository,
) -> None:
    rewrite(repository, before=None)

    assert found_by_verify(repository) == {"churn@target-a~2": "another version was live before"}


def test_deployment_that_keeps_what_was_let_go_is_found(repository: Repository) -> None:
    live = repository.deployments("churn", "target-a")[-1]
    other = repository.deployments("churn", "target-b")[0].kept[0]
    rewrite(repository, kept=(*live.kept, other))

    assert "it keeps a copy that was let go before" in found_by_verify(repository).values()


def test_counter_that_is_damaged_or_ahead_is_found(repository: Repository, backend: Path) -> None:
    (backend / DEPLOYMENT).unlink()
    ahead = found_by_verify(repository)
    assert ahead["churn@target-a"] == "the counter says 2, and the backend has 1 deployments"

    repository.home.paths.counter("churn+target-a").write_bytes(b"nothing that anybody wrote")
    assert "churn+target-a" in found_by_verify(repository)


def test_what_was_deployed_to_where_a_target_is_no_more_is_not_looked_for(
    repository: Repository, tmp_path: Path
) -> None:
    repository.remove_target("target-a")
    shutil.rmtree(tmp_path / "a")

    assert found_by_verify(repository) == {}


def test_target_that_can_not_be_reached_from_here_is_counted(
    repository: Repository, tmp_path: Path
) -> None:
    shutil.rmtree(tmp_path / "a")

    report = repository.verify()

    assert report.ok
    assert report.checked["targets not reached"] == 1


def test_what_was_removed_leads_nowhere(repository: Repository) -> None:
    removed = repository.remove_target("target-a").target
    with pytest.raises(TargetNotFound, match="the target target-a was removed"):
        repository.targets_at_backend.open(removed)

    repository.remove_alias("churn@alias-a")
    move = repository.alias_moves("churn@alias-a")[-1]
    with pytest.raises(AliasNotFound, match="is on no version"):
        repository.aliases_at_backend.version(move)


# Records that are whole, and say what no modeldrop writes


def test_deployment_whose_first_copy_is_another_versions_is_refused(
    repository: Repository,
) -> None:
    rewrite(repository, version=1)

    with pytest.raises(RecordDamaged, match="isn't that of its version"):
        repository.deployments_at_backend.deployment("churn", "target-a", 2)


def test_mark_in_a_state_that_there_is_not_is_refused(repository: Repository) -> None:
    mark = EXAMPLES["collection"]
    assert isinstance(mark, Collection)

    with pytest.raises(RecordDamaged, match="is no state of a collection"):
        Collection.from_bytes(replace(mark, state="forgotten").to_bytes(), "a record")


def test_version_that_pins_what_its_run_has_not_is_found(
    repository: Repository, backend: Path
) -> None:
    version = repository.versions("churn")[1]
    (backend / VERSION).write_bytes(replace(version, artifact="another").to_bytes())

    assert "another" in found_by_verify(repository)["churn/2"]


def test_version_whose_bytes_are_gone_is_deployed_nowhere(
    repository: Repository, backend: Path, tmp_path: Path
) -> None:
    _, artifact = repository.artifact("fraud/2")
    lost = backend / artifact.files[0].key
    lost.unlink()

    with pytest.raises(ArtifactDamaged) as refused:
        repository.deploy("fraud/2", "target-a")

    assert artifact.files[0].path in refused.value.message
    assert not (tmp_path / "a" / "fraud" / "current").exists()
