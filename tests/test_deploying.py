"""Deploying: what is live is one whole version, by its gates, and what was can be live again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from modeldrop import Repository, deploying
from modeldrop.backend.azure import AzureDriver
from modeldrop.backend.local import LocalBackend
from modeldrop.backend.s3 import S3Driver
from modeldrop.deployment_records import CopyLetGo, Current, Deployment, KeptCopy
from modeldrop.errors import (
    AliasNotFound,
    ArtifactDamaged,
    BackendError,
    BucketNotFound,
    ConfigError,
    Conflict,
    DeploymentNotFound,
    GateClosed,
    InvalidName,
    RecordDamaged,
    TargetNotFound,
)
from modeldrop.layout import deployments as deployments_folder
from modeldrop.layout import numbered
from modeldrop.structs import replace
from support.deploying import TARGET, served, store_folder
from support.letting import at_step
from support.sharing import host, store
from support.stores import RUN, model


@pytest.fixture(params=["local", "s3", "azure"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A backend, and the URL of a target of the same kind."""
    if request.param == "local":
        return str(tmp_path / "store"), str(tmp_path / "serving")
    url = request.getfixturevalue(f"{request.param}_url")
    return f"{url}/store", f"{url}/serving"


@pytest.fixture
def anywhere(place: tuple[str, str], tmp_path: Path) -> Iterator[Repository]:
    """A home with four versions, and a target without gates that keeps two copies."""
    with host(tmp_path / "home", place[0]) as made:
        for number in range(1, 5):
            store_folder(made, f"version {number}")
        made.add_target(TARGET, place[1], keep=2)
        yield made


@pytest.fixture
def serving(tmp_path: Path) -> Path:
    return tmp_path / "serving"


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    """A home on a local backend with four versions."""
    with host(tmp_path / "home", str(tmp_path / "store")) as made:
        for number in range(1, 5):
            store_folder(made, f"version {number}")
        yield made


@pytest.fixture
def deployer(repository: Repository, serving: Path) -> Repository:
    """The same with a target without gates, a folder of this machine."""
    repository.add_target(TARGET, serving)
    return repository


def live(repository: Repository) -> Deployment:
    [found] = repository.deployments("churn")
    return found


# What is live


def test_deployed_version_is_what_a_consumer_finds_and_what_references_name(
    anywhere: Repository,
) -> None:
    with pytest.raises(DeploymentNotFound):
        anywhere.resolve(f"churn@{TARGET}")

    first = anywhere.deploy("churn/2", TARGET, reason="better", by="ann")
    second = anywhere.deploy("churn/3", TARGET)

    assert (first.created, first.copied, first.deployment.before) == (True, True, None)
    assert (second.deployment.deployment, second.deployment.before) == (2, 2)
    assert served(anywhere) == 3
    version = anywhere.resolve(f"churn@{TARGET}").version
    assert version is not None
    assert version.version == 3
    was = anywhere.resolve(f"churn@{TARGET}~1").version
    assert was is not None
    assert was.version == 2
    assert anywhere.describe(version)["targets"] == [TARGET]
    assert anywhere.describe(was)["targets"] == []
    assert [each.deployment for each in anywhere.deployments("churn", TARGET)] == [1, 2]
    told = [(e.kind, e.about[0]) for e in anywhere.log(f"churn@{TARGET}")]
    assert told == [("deployed", f"churn@{TARGET}~2"), ("deployed", f"churn@{TARGET}~1")]
    report = anywhere.verify(deep=True)
    assert report.ok, report.findings
    assert report.checked["live deployments"] == 1
    assert anywhere.settle_deployments() == []
    assert anywhere.runs_at_backend.open_intents() == []


def test_rollback_goes_back_one_more_each_time_and_uses_the_copies_that_are_kept(
    anywhere: Repository,
) -> None:
    for number in (1, 2, 3):
        anywhere.deploy(f"churn/{number}", TARGET)

    # Two copies are kept: of 3 and of 2.
    back = anywhere.rollback("churn", TARGET, reason="wrong units")
    assert (back.deployment.version, back.copied, back.deployment.rolled_back) == (2, False, True)
    assert served(anywhere) == 2
    again = anywhere.rollback("churn", TARGET)
    assert (again.deployment.version, again.copied) == (1, True)
    assert served(anywhere) == 1
    with pytest.raises(DeploymentNotFound, match="nothing was live there before"):
        anywhere.rollback("churn", TARGET)
    to = anywhere.rollback("churn", TARGET, to=3)
    assert to.deployment.version == 3
    assert served(anywhere) == 3
    with pytest.raises(DeploymentNotFound, match="churn/4 never was live"):
        anywhere.rollback("churn", TARGET, to=4)
    assert [e.kind for e in anywhere.log(f"churn@{TARGET}")].count("rolled-back") == 3
    assert anywhere.verify(deep=True).ok


def test_version_that_is_live_is_not_deployed_again(anywhere: Repository) -> None:
    first = anywhere.deploy("churn/1", TARGET)
    again = anywhere.deploy("churn/1", TARGET, reason="again")

    assert (again.created, again.copied, again.deployment) == (False, False, first.deployment)
    assert len(anywhere.deployments("churn", TARGET)) == 1


def test_copies_let_go_are_removed_after_the_grace_and_those_kept_and_live_are_not(
    anywhere: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copies() -> set[str]:
        target = anywhere.targets_at_backend.current(TARGET)
        with_place = anywhere.targets_at_backend.open(target)
        found = {"/".join(each.key.split("/")[:3]) for each in with_place.walk("churn")}
        return {each for each in found if "current" not in each}

    made = [anywhere.deploy(f"churn/{n}", TARGET).deployment for n in (1, 2, 3, 4)]
    # Within the grace a reader may be at any of them.
    assert copies() == {each.copy for each in made}
    assert [each.version for each in live(anywhere).let_go] == [1, 2]

    monkeypatch.setattr(deploying, "_GRACE", timedelta(0))
    last = anywhere.deploy("churn/1", TARGET)

    # What was let go isn't live again: version 1 was copied anew.
    assert last.copied
    assert [each.version for each in last.deployment.let_go] == [3]
    assert copies() == {last.deployment.copy, made[3].copy, made[2].copy}
    assert served(anywhere) == 1
    assert anywhere.verify(deep=True).ok


def test_store_copies_by_itself_and_what_it_copied_is_verified(
    anywhere: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[bool] = []

    def watched(real: Callable[..., bool]) -> Callable[..., bool]:
        def take(*arguments: object) -> bool:
            taken.append(real(*arguments))
            return taken[-1]

        return take

    for kind in (LocalBackend, S3Driver, AzureDriver):
        monkeypatch.setattr(kind, "take", watched(kind.take))
    anywhere.deploy("churn/1", TARGET)

    assert taken == [True, True, True]
    assert served(anywhere) == 1


def test_large_object_is_copied_by_the_store_in_parts(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeldrop.backend.s3._COPIED_AT_ONCE", 5 * 2**20)
    with host(tmp_path / "home", f"{s3_url}/store") as made:
        path = model(tmp_path / "large.bin")
        path.write_bytes(os.urandom(11 * 2**20))
        made.upload(RUN, path)
        made.register(RUN, "churn")
        made.add_target(TARGET, f"{s3_url}/serving")
        made.deploy("churn", TARGET)
        assert served(made) == 1


def test_target_of_another_kind_gets_its_bytes_through_this_machine(
    s3_url: str, tmp_path: Path
) -> None:
    with host(tmp_path / "home", str(tmp_path / "store")) as made:
        store_folder(made, "one")
        made.add_target("there", f"{s3_url}/serving")
        made.add_target("here", tmp_path / "serving")
        made.deploy("churn", "there")
        made.deploy("churn", "here")
        assert (served(made, "there"), served(made, "here")) == (1, 1)
    with host(tmp_path / "other", f"{s3_url}/store") as made:
        store_folder(made, "one")
        made.add_target("here", tmp_path / "elsewhere")
        made.deploy("churn", "here")
        assert served(made, "here") == 1


def test_file_and_whole_run_are_deployed_by_the_names_that_they_have(
    deployer: Repository, serving: Path, tmp_path: Path
) -> None:
    model(tmp_path / "aside" / "model.onnx", "one")
    deployer.upload(RUN, tmp_path / "aside" / "model.onnx")
    deployer.register(RUN, "file")
    deployer.register(RUN, "whole", artifact=".")

    deployer.deploy("file", TARGET)
    deployer.deploy("whole", TARGET)

    assert (serving / "file" / "current" / "model.onnx").read_text() == "one"
    assert (serving / "whole" / "current" / "model.onnx").read_text() == "one"
    assert [each.name for each in deployer.deployments()] == [f"file@{TARGET}", f"whole@{TARGET}"]
    assert deployer.verify(deep=True).ok


def test_copy_is_no_hard_link_so_that_who_changes_it_changes_nothing_stored(
    deployer: Repository, serving: Path
) -> None:
    deployer.deploy("churn/1", TARGET)
    for path in (serving / "churn" / "current" / "model").rglob("*"):
        if path.is_file():
            assert path.stat().st_nlink == 1
            path.chmod(0o644)
            path.write_text("changed")

    report = deployer.verify(deep=True)
    assert {each.kind for each in report.findings} == {"target"}
    assert deployer.verify("churn/1").ok


def test_record_at_a_store_says_the_version_with_keys_and_digests(
    s3_url: str, tmp_path: Path
) -> None:
    with host(tmp_path / "home", f"{s3_url}/store") as made:
        store_folder(made, "one")
        made.add_target(TARGET, f"{s3_url}/serving")
        done = made.deploy("churn", TARGET).deployment
        opened = made.targets_at_backend.open(made.targets_at_backend.current(TARGET))
        data = opened.read("churn/current.json")
    assert data is not None
    current = Current.from_bytes(data, "current.json")
    assert (current.version, current.deployment, current.target) == (1, 1, TARGET)
    assert {each.path for each in current.files} == {
        *("weights.bin", "vocabulary/words.txt", "config with spaces.json"),
    }
    assert all(each.key.startswith(f"{done.copy}/model/") for each in current.files)


# What goes wrong


def test_damaged_copy_that_is_live_is_replaced_by_deploying_again(
    deployer: Repository, serving: Path
) -> None:
    first = deployer.deploy("churn/1", TARGET).deployment
    (serving / first.copy / "model" / "weights.bin").write_text("other")
    assert [each.where for each in deployer.verify(deep=True).findings] == [f"churn@{TARGET}~1"]

    again = deployer.deploy("churn/1", TARGET)

    assert (again.created, again.copied) == (True, True)
    assert served(deployer) == 1
    assert deployer.verify(deep=True).ok
    with pytest.raises(DeploymentNotFound):
        deployer.rollback("churn", TARGET)


def test_kept_copy_that_is_damaged_is_not_used_again(deployer: Repository, serving: Path) -> None:
    first = deployer.deploy("churn/1", TARGET).deployment
    deployer.deploy("churn/2", TARGET)
    (serving / first.copy / "model" / "weights.bin").unlink()

    back = deployer.rollback("churn", TARGET)

    assert (back.deployment.version, back.copied) == (1, True)
    assert served(deployer) == 1


def test_current_that_is_behind_is_found_by_verify_and_brought_forward_by_deploying(
    deployer: Repository, serving: Path
) -> None:
    first = deployer.deploy("churn/1", TARGET).deployment
    deployer.deploy("churn/2", TARGET)
    link = serving / "churn" / "current"
    link.unlink()
    link.symlink_to(first.copy.removeprefix("churn/"))
    assert served(deployer) == 1
    [finding] = deployer.verify().findings
    assert finding.where == f"churn@{TARGET}~2"
    assert "deploy churn/2" in finding.what

    again = deployer.deploy("churn/2", TARGET)

    assert not again.created
    assert served(deployer) == 2
    assert deployer.verify().ok


def test_damaged_bytes_are_never_deployed(deployer: Repository, tmp_path: Path) -> None:
    deployer.deploy("churn/1", TARGET)
    version = deployer.resolve("churn/2")
    assert version.artifact is not None
    stored = tmp_path / "store" / version.artifact.files[0].key
    stored.chmod(0o644)
    stored.write_bytes(b"x" * stored.stat().st_size)

    with pytest.raises(ArtifactDamaged):
        deployer.deploy("churn/2", TARGET)

    assert served(deployer) == 1
    assert len(deployer.deployments("churn", TARGET)) == 1
    assert not list((tmp_path / "home" / "deploying").iterdir())
    assert not (tmp_path / "serving" / "churn" / "2").exists()


def test_place_that_is_not_the_targets_is_never_written_to(
    deployer: Repository, serving: Path, tmp_path: Path
) -> None:
    deployer.deploy("churn/1", TARGET)
    serving.rename(tmp_path / "away")
    with pytest.raises(BucketNotFound):
        deployer.deploy("churn/2", TARGET)
    serving.mkdir()
    with pytest.raises(BucketNotFound, match="isn't the place of the target"):
        deployer.deploy("churn/2", TARGET)
    assert list(serving.iterdir()) == []
    assert deployer.verify().checked["targets not reached"] == 1

    serving.rmdir()
    (tmp_path / "away").rename(serving)
    assert deployer.deploy("churn/2", TARGET).created

    with (
        host(tmp_path / "other", str(tmp_path / "other-store")) as other,
        pytest.raises(Conflict, match="of the repository"),
    ):
        other.add_target(TARGET, serving)
    with pytest.raises(Conflict, match=f"the place of the target {TARGET}"):
        deployer.add_target("second", serving)


def test_something_else_in_the_way_of_current_is_said(deployer: Repository, serving: Path) -> None:
    (serving / "churn" / "current").mkdir(parents=True)
    with pytest.raises(BackendError, match="is no symbolic link") as caught:
        deployer.deploy("churn/1", TARGET)
    assert "modeldrop deployments" in caught.value.hint
    (serving / "churn" / "current").rmdir()

    [settled] = deployer.settle_deployments()

    assert settled.outcome == "finished"
    assert served(deployer) == 1
    assert deployer.verify(deep=True).ok


@pytest.mark.parametrize("which", ["kept", "let_go"])
@pytest.mark.parametrize(
    "copy", ["../../elsewhere", "/elsewhere", "other/1", "churn", "churn/1/..", "churn/current"]
)
def test_record_that_names_another_folder_leads_nowhere_and_removes_nothing(
    deployer: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: str, copy: str
) -> None:
    deployer.deploy("churn/1", TARGET)
    (tmp_path / "serving" / "other" / "1").mkdir(parents=True)
    monkeypatch.setattr(deploying, "_GRACE", timedelta(0))
    forge(deployer, tmp_path / "store", which, copy)

    with pytest.raises(RecordDamaged, match="is no copy of churn/1"):
        deployer.deploy("churn/2", TARGET)

    assert served(deployer) == 1
    assert (tmp_path / "serving" / "other" / "1").is_dir()
    assert not deployer.verify().ok


def test_record_that_has_its_live_copy_removed_is_damaged(
    deployer: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = deployer.deploy("churn/1", TARGET).deployment
    monkeypatch.setattr(deploying, "_GRACE", timedelta(0))
    forge(deployer, tmp_path / "store", "let_go", first.copy)

    with pytest.raises(RecordDamaged, match="is kept and to be removed"):
        deployer.deploy("churn/2", TARGET)

    assert served(deployer) == 1


def forge(repository: Repository, store: Path, which: str, copy: str) -> None:
    """Append a whole deployment as somebody could who only has the keys of the backend."""
    last = live(repository)
    forged = replace(
        last,
        deployment=last.deployment + 1,
        kept=(KeptCopy(1, copy),) if which == "kept" else last.kept,
        let_go=(CopyLetGo(1, copy, last.deployed_at),) if which == "let_go" else (),
    )
    key = numbered(deployments_folder("churn", TARGET), forged.deployment)
    (store / key).write_bytes(forged.to_bytes())


def test_journal_is_rebuilt_with_targets_and_deployments(
    deployer: Repository, tmp_path: Path
) -> None:
    deployer.deploy("churn/1", TARGET)
    deployer.deploy("churn/2", TARGET)
    deployer.rollback("churn", TARGET)
    kinds = sorted(e.kind for e in deployer.log())
    deployer.home.paths.journal.unlink()
    deployer.home.paths.head.unlink()
    with Repository.open(tmp_path / "home") as again:
        again.rebuild()
        rebuilt = sorted(e.kind for e in again.log())
        assert [k for k in rebuilt if k != "home-rebuilt"] == [
            k for k in kinds if k != "home-created"
        ]
        assert again.verify(deep=True).ok


def test_lost_deployments_are_noticed_and_no_number_is_given_twice(
    deployer: Repository, tmp_path: Path
) -> None:
    deployer.deploy("churn/1", TARGET)
    deployer.deploy("churn/2", TARGET)
    (tmp_path / "store" / numbered(deployments_folder("churn", TARGET), 2)).unlink()

    with pytest.raises(Exception, match="is not at"):
        deployer.deploy("churn/3", TARGET)
    kinds = {each.kind for each in deployer.verify().findings}
    assert "deployment" in kinds


# Targets and their gates


def test_alias_gate_takes_only_what_the_alias_is_on(repository: Repository, serving: Path) -> None:
    repository.add_target(TARGET, serving, require_alias="champion")
    with pytest.raises(GateClosed, match="on no version"):
        repository.deploy("churn/1", TARGET)
    repository.promote("churn/1", "champion")
    assert repository.deploy("churn/1", TARGET).created
    with pytest.raises(GateClosed, match=r"it is on churn/1, not churn/2") as caught:
        repository.deploy("churn/2", TARGET)
    assert caught.value.exit_code == 11
    assert caught.value.detail["gate"] == "require-alias"
    assert served(repository) == 1
    repository.promote("churn/2", "champion")
    repository.deploy("churn@champion", TARGET)
    # What is rolled back to had the alias when it was deployed.
    assert repository.rollback("churn", TARGET).deployment.version == 1


def test_verified_gate_reads_every_byte_before_anything_is_copied(
    repository: Repository, serving: Path, tmp_path: Path
) -> None:
    repository.add_target(TARGET, serving, require_verified=True)
    found = repository.resolve("churn/2")
    assert found.artifact is not None
    stored = tmp_path / "store" / found.artifact.files[0].key
    stored.chmod(0o644)
    stored.write_bytes(b"x" * stored.stat().st_size)

    with pytest.raises(ArtifactDamaged, match=f"the target {TARGET} takes no churn/2"):
        repository.deploy("churn/2", TARGET)

    assert not (serving / "churn").exists()
    assert repository.deploy("churn/1", TARGET).created


def test_confirmation_gate_takes_nothing_without_it_not_even_back(
    repository: Repository, serving: Path
) -> None:
    repository.add_target(TARGET, serving, confirm=True)
    with pytest.raises(GateClosed, match="only if you confirm it"):
        repository.deploy("churn/1", TARGET)
    assert repository.deploy("churn/1", TARGET, confirmed=True).created
    assert repository.deploy("churn/2", TARGET, confirmed=True).created
    with pytest.raises(GateClosed):
        repository.rollback("churn", TARGET)
    assert repository.rollback("churn", TARGET, confirmed=True).deployment.version == 1


def test_production_has_a_gate_whether_one_is_asked_for_or_not(
    repository: Repository, serving: Path
) -> None:
    made = repository.add_target(TARGET, serving, production=True).target
    assert made.gates == ["--require-verified"]
    changed = repository.add_target(TARGET, serving, production=True, confirm=True).target
    assert (changed.gates, changed.change) == (["--confirm"], 2)


def test_gate_holds_on_every_host(repository: Repository, serving: Path, tmp_path: Path) -> None:
    repository.add_target(TARGET, serving, require_alias="champion")
    with host(tmp_path / "second", str(tmp_path / "store")) as second:
        with pytest.raises(GateClosed):
            second.deploy("churn/1", TARGET)
        second.promote("churn/1", "champion")
    assert repository.deploy("churn/1", TARGET).created
    [seen] = repository.targets()
    assert seen.require_alias == "champion"


def test_alias_and_target_never_bear_the_same_name(
    repository: Repository, serving: Path, tmp_path: Path
) -> None:
    repository.promote("churn/1", "champion")
    with pytest.raises(Conflict, match="churn@champion is an alias"):
        repository.add_target("champion", serving)
    assert not serving.exists()
    repository.add_target(TARGET, serving)
    with pytest.raises(Conflict, match="is a target"):
        repository.promote("churn/1", TARGET)
    with pytest.raises(AliasNotFound):
        repository.alias_moves(f"churn@{TARGET}")
    # What is gone holds no name.
    repository.remove_alias("churn@champion")
    repository.add_target("champion", tmp_path / "other")
    with pytest.raises(Conflict, match="is a target"):
        repository.promote("churn/2", "champion")
    repository.remove_target("champion")
    assert repository.promote("churn/2", "champion").created


def test_alias_and_target_of_one_name_that_were_made_at_once_are_named_by_verify(
    repository: Repository, serving: Path, tmp_path: Path
) -> None:
    # Each looks at the other before it is made.
    with (
        host(tmp_path / "second", repository.backend.url) as second,
        at_step("intent written", lambda: second.promote("churn/1", TARGET)),
    ):
        repository.add_target(TARGET, serving)
        second.push()
    repository.fetch()
    (finding,) = repository.verify().findings
    assert (finding.kind, finding.where) == ("alias", f"churn@{TARGET}")
    assert "there is a target of that name" in finding.what
    repository.remove_alias(f"churn@{TARGET}")
    assert repository.verify().ok


def test_target_is_set_once_changed_removed_and_made_again(
    repository: Repository, serving: Path, tmp_path: Path
) -> None:
    first = repository.add_target(TARGET, serving, reason="new")
    again = repository.add_target(TARGET, serving)
    assert (first.created, again.created) == (True, False)
    with pytest.raises(Conflict, match="is at"):
        repository.add_target(TARGET, tmp_path / "elsewhere")
    repository.deploy("churn/1", TARGET)
    assert repository.remove_target(TARGET).created
    assert not repository.remove_target(TARGET).created
    for call in (
        lambda: repository.deploy("churn/1", TARGET),
        lambda: repository.remove_target("nothing"),
    ):
        with pytest.raises(TargetNotFound):
            call()
    with pytest.raises(AliasNotFound):
        repository.resolve(f"churn@{TARGET}")
    assert (repository.targets(), repository.deployments()) == ([], [])

    repository.add_target(TARGET, tmp_path / "elsewhere")

    # What was live at the place before says nothing of this one.
    with pytest.raises(DeploymentNotFound, match="was at"):
        repository.resolve(f"churn@{TARGET}")
    made = repository.deploy("churn/1", TARGET)
    assert (made.copied, made.deployment.before, made.deployment.deployment) == (True, None, 2)
    assert served(repository) == 1
    assert repository.verify(deep=True).ok
    kinds = [e.kind for e in repository.log() if e.kind.startswith("target")]
    assert kinds == ["target-set", "target-removed", "target-set"]


@pytest.mark.parametrize("name", ["latest", "3", "a..b", "x.lock", "a/b", ""])
def test_names_of_targets_are_those_of_aliases(repository: Repository, name: str) -> None:
    with pytest.raises(InvalidName):
        repository.add_target(name, "serving")


def test_place_where_nothing_can_be_switched_in_one_step_is_refused(
    repository: Repository, webdav_url: str
) -> None:
    with pytest.raises(ConfigError, match="can't be switched in one step"):
        repository.add_target(TARGET, webdav_url)
    assert repository.targets() == []


def test_secret_in_a_targets_url_is_refused_and_not_repeated(repository: Repository) -> None:
    with pytest.raises(ConfigError) as caught:
        repository.add_target(TARGET, "s3://key:geheim@bucket/x")
    assert "geheim" not in str(caught.value)
    assert repository.targets() == []


def test_copy_of_a_home_says_who_deployed(deployer: Repository, tmp_path: Path) -> None:
    deployer.deploy("churn/1", TARGET)
    shutil.copytree(tmp_path / "home", tmp_path / "copy")
    with Repository.open(tmp_path / "copy") as copied:
        copied.deploy("churn/2", TARGET)
        made = live(copied)
        assert made.home == copied.home.id != deployer.home.id


def test_one_experiment_says_nothing_of_another(deployer: Repository) -> None:
    store(deployer, "weights", "demand")
    deployer.deploy("churn/1", TARGET)
    deployer.deploy("demand/1", TARGET)
    deployer.deploy("churn/2", TARGET)
    assert served(deployer, experiment="demand") == 1
    assert served(deployer) == 2


def test_another_version_of_the_same_bytes_is_deployed_as_what_it_is(tmp_path: Path) -> None:
    with host(tmp_path / "home", str(tmp_path / "store")) as repository:
        store(repository, "weights")
        run = repository.resolve("churn/1").revision.run
        assert repository.register(f"run:{run}", "churn", again=True).version.version == 2
        repository.add_target(TARGET, tmp_path / "serving", require_verified=False)

        repository.deploy("churn/1", TARGET)
        second = repository.deploy("churn/2", TARGET)

        assert (second.created, second.deployment.version) == (True, 2)
