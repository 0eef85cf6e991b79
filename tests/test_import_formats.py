"""What is imported is looked at as what is dropped is, and a home's `[formats]` hold for it too."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

import pytest

from modeldrop import Repository
from modeldrop.imports import opening
from modeldrop.imports.carrying import Options, carry
from modeldrop.imports.elsewhere import Source
from modeldrop.imports.packing import pack
from modeldrop.imports.report import Report
from modeldrop.intake.inspection import Inspection, Looks
from modeldrop.names import new_guid
from modeldrop.records import Revision
from support import modelfiles
from support.mlopsnet import MadeNet, empty
from support.sharing import host

Place = Callable[[], AbstractContextManager[Source]]

PARKS: Final = '[formats]\nruns_code = "park"\n'


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """The folder of a home that imports."""
    host(tmp_path / "home", str(tmp_path / "store")).close()
    return tmp_path / "home"


@pytest.fixture(params=["bundle", "mlopsnet"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """A place with churn/1, which runs code when it is loaded, and churn/2, which doesn't."""
    if request.param == "mlopsnet":
        made = _net(tmp_path / "net")
        return lambda: opening.mlopsnet(made.database, made.folder)
    bundle = tmp_path / "churn.bundle"
    _bundle(tmp_path, bundle)
    return lambda: opening.bundle(bundle)


def _net(root: Path) -> MadeNet:
    made = empty(root)
    experiment = made.add("Experiment", "churn", "2020-10-04 14:00:00")
    for number, model in enumerate((modelfiles.pickled(), modelfiles.safetensors()), 1):
        run, artifact = made.run(experiment, model)
        made.register(experiment, run, artifact, number)
    return made


def _bundle(folder: Path, bundle: Path) -> None:
    with host(folder / "origin", str(folder / "origin store")) as origin:
        for name, model in (
            ("model.pkl", modelfiles.pickled()),
            ("model.safetensors", modelfiles.safetensors()),
        ):
            (folder / name).write_bytes(model)
            run = new_guid()
            origin.upload(run, folder / name)
            origin.register(f"run:{run}", "churn")
        pack(origin, [origin.resolve("churn")], bundle, history=True)


def bring(home: Path, place: Place, *, dry_run: bool = False) -> Report:
    with Repository.open(home) as repository, place() as source:
        return carry(repository, source, Options(dry_run=dry_run))


def revisions(home: Path) -> list[Revision]:
    """Return the revisions of both versions."""
    with Repository.open(home) as repository:
        return [repository.resolve(f"churn/{number}").revision for number in (1, 2)]


def told(revision: Revision) -> list[tuple[str, bool]]:
    return [(each.kind, each.runs_code) for each in revision.formats]


def parks(home: Path) -> None:
    config = home / "config.toml"
    config.write_text(config.read_text() + PARKS)


def test_what_is_imported_is_known_by_its_header(here: Path, place: Place) -> None:
    assert bring(here, place).complete
    found = revisions(here)
    assert [told(each) for each in found] == [[("pickle", True)], [("safetensors", False)]]
    assert found[1].formats[0].path == found[1].artifacts[0].artifact


def test_what_a_home_parks_is_left_with_the_reason_and_its_number_waits(
    here: Path, place: Place
) -> None:
    parks(here)
    planned = bring(here, place, dry_run=True)
    report = bring(here, place)
    for each in (planned, report):
        (left,) = (one for one in each.left if one.kind == "file")
        assert "[formats] runs_code parks it" in left.reason
        assert [one.name for one in each.waiting] == ["churn/1"]
        assert "[formats] runs_code parks it" in each.waiting[0].reason
    with Repository.open(here) as repository:
        assert [each.committed_by for each in repository.runs()] != []
        assert list(repository.experiments()) == []
        assert repository.verify(deep=True).ok


def test_none_of_its_bytes_reach_the_backend(here: Path, place: Place, tmp_path: Path) -> None:
    parks(here)
    bring(here, place)
    stored = [each.read_bytes() for each in (tmp_path / "store").rglob("*") if each.is_file()]
    assert modelfiles.safetensors() in stored
    assert modelfiles.pickled() not in stored


def test_once_the_home_lets_it_in_the_next_import_brings_it(here: Path, place: Place) -> None:
    before = (here / "config.toml").read_text()
    parks(here)
    bring(here, place)
    (here / "config.toml").write_text(before)
    assert bring(here, place).complete
    assert [told(each) for each in revisions(here)] == [
        [("pickle", True)],
        [("safetensors", False)],
    ]


def test_what_is_here_already_stays_when_the_home_parks_it_later(here: Path, place: Place) -> None:
    bring(here, place)
    before = revisions(here)
    parks(here)
    report = bring(here, place)
    assert report.complete
    assert report.counts["versions"].there == 2
    assert revisions(here) == before


def test_only_the_artifact_that_is_parked_is_left(here: Path, tmp_path: Path) -> None:
    made = empty(tmp_path / "net")
    experiment = made.add("Experiment", "churn", "2020-10-04 14:00:00")
    run, _ = made.run(experiment, modelfiles.pickled())
    kept = made.add("RunArtifact", made.spell(run), "model.safetensors")
    (made.folder / "model.safetensors").write_bytes(modelfiles.safetensors())
    made.register(experiment, run, kept, 1)
    parks(here)
    assert bring(here, lambda: opening.mlopsnet(made.database, made.folder)).complete
    with Repository.open(here) as repository:
        revision = repository.resolve("churn/1").revision
    assert [each.artifact for each in revision.artifacts] == ["model.safetensors"]
    assert [each.path for each in revision.refused] == [f"{run}.zip"]
    assert told(revision) == [("safetensors", False)]


def test_what_a_bundle_says_of_its_files_is_not_believed(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A home that says nothing of any file, as one from before that was known did.
    monkeypatch.setattr(Looks, "look_at", lambda *_: None)
    monkeypatch.setattr(Inspection, "look", lambda *_: None)
    _bundle(tmp_path, tmp_path / "churn.bundle")
    monkeypatch.undo()
    bring(here, lambda: opening.bundle(tmp_path / "churn.bundle"))
    assert told(revisions(here)[0]) == [("pickle", True)]
