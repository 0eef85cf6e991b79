"""`import mlopsnet --target`: what was deployed last there is live here, and nothing is undone."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from modeldrop import Repository
from modeldrop.errors import UsageError
from modeldrop.imports import opening
from modeldrop.imports.carrying import Options, carry
from modeldrop.imports.report import Report
from support import work
from support.children import dies, run, together
from support.deploying import served
from support.mlopsnet import MadeNet, usual
from support.sharing import host, store

STEPS: Final = (
    "deployment noted",
    "copy written",
    "copy verified",
    "intent written",
    "record appended",
    "current switched",
    "journal acknowledged",
    "intent removed",
    "deployment forgotten",
)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with host(tmp_path / "home", str(tmp_path / "store")) as made:
        yield made


@pytest.fixture
def net(tmp_path: Path) -> MadeNet:
    """A store where churn/1, and after it churn/3, went to production, and churn/1 to a lab."""
    made, experiment = usual(tmp_path / "net")
    first = made.register(experiment, *made.run(experiment, b"model 4", 4), 4)
    target = made.add("DeploymentTarget", "The lab", "2020-10-05 09:00:00", 0)
    for at, by in (("2020-10-05 10:00:00", "bob"), ("2020-10-05 09:00:00", "eve")):
        made.add("Deployment", *map(made.spell, (target, first)), at, by, "")
    return made


def bring(repository: Repository, made: MadeNet, *, dry_run: bool = False, **urls: Path) -> Report:
    """Import it, with the URLs of its targets `production` and `lab`."""
    names = {"lab": "The lab"}
    targets = {names.get(name, name): str(url) for name, url in urls.items()}
    with opening.mlopsnet(made.database, made.folder) as source:
        return carry(repository, source, Options(dry_run=dry_run, targets=targets))


def counted(report: Report) -> dict[str, tuple[int, int]]:
    counts = report.counts
    return {
        each: (counts[each].created, counts[each].there)
        for each in ("targets", "deployments")
        if each in counts
    }


def history(repository: Repository, target: str = "production") -> list[tuple[int, str, str]]:
    return [
        (each.version, each.deployed_by, each.reason)
        for each in repository.deployments("churn", target)
    ]


def test_what_was_deployed_last_is_live_here_and_says_who_did_that_there(
    repository: Repository, net: MadeNet, tmp_path: Path
) -> None:
    report = bring(repository, net, production=tmp_path / "live", lab=tmp_path / "lab")
    assert report.complete
    assert counted(report) == {"targets": (2, 0), "deployments": (2, 0)}
    production, lab = sorted(repository.targets(), key=lambda each: not each.production)
    assert (production.target, production.require_verified) == ("production", True)
    assert (lab.target, lab.production) == ("The-lab", False)
    assert report.renamed == {"The lab": "The-lab"}
    assert served(repository) == 3
    assert served(repository, "The-lab") == 4
    told = "grace deployed it at 2020-10-06T10:00:00.000000Z to https://models.example/churn"
    assert history(repository) == [
        (
            3,
            repository.home.user,
            f"imported from MLOps.NET: {told}",
        )
    ]
    # What was deployed before is told, and isn't made up here.
    (older,) = (each for each in report.left if each.kind == "deployment")
    assert older.name == "churn/4 on The lab"
    assert older.reason.startswith("eve deployed it at 2020-10-05T09:00:00")
    assert "bob" in history(repository, "The-lab")[0][2]
    assert repository.verify(deep=True).ok


def test_without_a_url_it_is_told(repository: Repository, net: MadeNet, tmp_path: Path) -> None:
    report = bring(repository, net, lab=tmp_path / "lab")
    told = {(each.kind, each.name): each.reason for each in report.left}
    assert "--target NAME=URL" in told["target", "production"]
    assert "what is there isn't known here" in told["deployment", "churn/3 on production"]
    assert [each.target for each in repository.targets()] == ["The-lab"]


def test_twice_deploys_nothing_again(repository: Repository, net: MadeNet, tmp_path: Path) -> None:
    bring(repository, net, production=tmp_path / "live")
    before = [(each.seq, each.kind) for each in repository.log()]
    again = bring(repository, net, production=tmp_path / "live")
    assert counted(again) == {"targets": (0, 1), "deployments": (0, 1)}
    assert [(each.seq, each.kind) for each in repository.log()] == before


def test_dry_run_makes_no_target(repository: Repository, net: MadeNet, tmp_path: Path) -> None:
    planned = bring(repository, net, dry_run=True, production=tmp_path / "live")
    assert repository.targets() == []
    assert not (tmp_path / "live").exists()
    done = bring(repository, net, production=tmp_path / "live")
    assert counted(planned) == counted(done)
    planned = bring(repository, net, dry_run=True, production=tmp_path / "live")
    assert counted(planned) == {"targets": (0, 1), "deployments": (0, 1)}


def test_what_was_deployed_here_since_stays_live(
    repository: Repository, net: MadeNet, tmp_path: Path
) -> None:
    bring(repository, net, production=tmp_path / "live")
    repository.deploy("churn/1", "production")
    report = bring(repository, net, production=tmp_path / "live")
    assert served(repository) == 1
    assert any("churn/1 was deployed here" in each.reason for each in report.left)
    assert report.complete


def test_what_was_retired_here_is_not_deployed(
    repository: Repository, net: MadeNet, tmp_path: Path
) -> None:
    bring(repository, net)
    repository.retire("churn/3", reason="it leaks")
    for dry_run in (True, False):
        report = bring(repository, net, dry_run=dry_run, production=tmp_path / "live")
        assert report.complete
        assert any("it leaks" in each.reason for each in report.left)
        assert "deployments" not in report.counts
    assert not repository.deployments()


def test_the_gates_of_a_target_that_is_here_hold(
    repository: Repository, net: MadeNet, tmp_path: Path
) -> None:
    repository.add_target("production", tmp_path / "live", require_alias="champion")
    report = bring(repository, net, production=tmp_path / "live")
    assert [(each.kind, each.name) for each in report.waiting] == [
        ("deployment", "churn/3 on production")
    ]
    assert "champion" in report.waiting[0].reason
    assert [each.require_alias for each in repository.targets()] == ["champion"]
    assert any("no production target here" in each.reason for each in report.left)
    repository.promote("churn/3", "champion")
    assert bring(repository, net, production=tmp_path / "live").complete
    assert served(repository) == 3


def test_a_target_that_is_elsewhere_or_was_removed_here_stays_so(
    repository: Repository, net: MadeNet, tmp_path: Path
) -> None:
    repository.add_target("production", tmp_path / "own")
    report = bring(repository, net, production=tmp_path / "live")
    assert [(each.kind, each.name) for each in report.conflicts] == [("target", "production")]
    assert not repository.deployments()
    repository.remove_target("production")
    report = bring(repository, net, production=tmp_path / "live")
    assert report.complete
    assert any("stays removed" in each.reason for each in report.left)
    assert repository.targets() == []


def test_a_place_that_cannot_be_had_waits_and_the_rest_is_imported(
    repository: Repository, net: MadeNet, tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    report = bring(repository, net, production=tmp_path / "file", lab=tmp_path / "lab")
    assert [(each.kind, each.name) for each in report.waiting] == [("target", "production")]
    assert served(repository, "The-lab") == 4


def test_what_was_deployed_there_and_is_not_here_waits_and_what_never_comes_does_not(
    repository: Repository, net: MadeNet, tmp_path: Path
) -> None:
    (net.folder / f"{net.runs[2]}.zip").unlink()
    live = tmp_path / "live"
    waits = bring(repository, net, production=live).waiting
    assert ("deployment", "churn/3 on production") in [(each.kind, each.name) for each in waits]
    with opening.mlopsnet(net.database, net.folder) as source:
        gone = Options(leave_vacant=True, targets={"production": str(live)})
        assert carry(repository, source, gone).complete
    again = bring(repository, net, production=live)
    assert again.complete
    assert any("won't be" in each.reason for each in again.left)


def test_another_model_under_the_number_is_never_deployed_in_its_place(
    repository: Repository, net: MadeNet, tmp_path: Path
) -> None:
    store(repository, "own")
    report = bring(repository, net, production=tmp_path / "live")
    assert not repository.deployments()
    assert not report.complete


def test_a_name_that_is_not_there_is_refused_before_anything(
    repository: Repository, net: MadeNet, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"no target staging .* The lab, production"):
        bring(repository, net, staging=tmp_path / "live")
    assert list(repository.runs()) == []


@pytest.mark.parametrize("step", STEPS)
def test_killed_and_run_again_it_is_live_once(net: MadeNet, tmp_path: Path, step: str) -> None:
    what = (tmp_path / "home", net.database, net.folder, str(tmp_path / "live"))
    with host(tmp_path / "home", str(tmp_path / "store")) as made:
        # So that each step is one of the deployment.
        bring(made, net)
        made.add_target("production", tmp_path / "live", production=True)
    assert dies(work.import_mlopsnet, *what, at=step)
    assert run(work.import_mlopsnet, *what)
    with Repository.open(tmp_path / "home") as again:
        assert served(again) == 3
        assert len(history(again)) == 1
        assert again.runs_at_backend.open_intents() == []
        assert again.settle_deployments() == []
        assert again.verify(deep=True).ok


def test_two_processes_that_import_at_once_deploy_it_once(net: MadeNet, tmp_path: Path) -> None:
    homes = [tmp_path / "one", tmp_path / "two"]
    for each in homes:
        host(each, str(tmp_path / "store")).close()
    every = [(each, net.database, net.folder, str(tmp_path / "live")) for each in homes]
    assert together(work.import_mlopsnet, every) == [True] * 2
    with Repository.open(homes[0]) as repository:
        assert len(history(repository)) == 1
        assert served(repository) == 3


@pytest.mark.parametrize("spell", [str.upper, str.lower])
def test_guids_in_either_case_are_one(
    repository: Repository, tmp_path: Path, spell: Callable[[str], str]
) -> None:
    made, _ = usual(tmp_path / "other net", spell)
    assert bring(repository, made, production=tmp_path / "live").complete
    assert served(repository) == 3
