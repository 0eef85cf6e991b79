"""What is retired, superseded or unregistered goes, marked first; what is pinned never does."""

from __future__ import annotations

import contextlib
import os
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest

from modeldrop import Repository, collection, gc, layout, pins
from modeldrop.backend import open_backend
from modeldrop.errors import (
    ArtifactCollected,
    BackendError,
    InvalidName,
    VersionInUse,
    VersionRetired,
)
from modeldrop.gc import ARTIFACT, BYTES, MARK, STORE
from modeldrop.imports import opening
from modeldrop.imports.carrying import Options, carry
from modeldrop.imports.packing import pack
from modeldrop.imports.report import Report
from modeldrop.names import new_guid
from modeldrop.promotion import Promotion
from modeldrop.records import COLLECTED, KEPT, MARKED, LetGo, Registration, Revision
from modeldrop.registrations import Registrations
from modeldrop.structs import replace
from modeldrop.versions import Versions
from support import mlopsnet, work
from support.children import dies, run
from support.letting import at_step, collect, collect_at, gone, retire_at
from support.program import Program, in_process
from support.sharing import host, store
from support.stores import model

RETIRED: Final = 15.0
"""Days after which a version that is retired now may be marked."""
LATER: Final = 1.1
"""Days after which what is marked may be collected."""

APPENDING: Final = (
    "intent written",
    "record appended",
    "followers brought forward",
    "journal acknowledged",
    "intent removed",
)


@pytest.fixture(params=["local", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A local folder, or a bucket."""
    return (
        str(tmp_path / "store") if request.param == "local" else request.getfixturevalue("s3_url")
    )


@pytest.fixture
def local(tmp_path: Path) -> str:
    return str(tmp_path / "store")


@contextlib.contextmanager
def two_hosts(root: Path, backend: str) -> Iterator[tuple[Repository, Repository]]:
    with host(root / "a", backend) as one, host(root / "b", backend) as other:
        yield one, other


def upload(repository: Repository, run: str, text: str, name: str = "model") -> str:
    """Store a revision of a run that has one artifact; return its reference."""
    path = model(repository.home.paths.root.parent / f"aside-{new_guid()}" / name, text)
    revision = repository.upload(run, path).revision
    return f"run:{run}~{revision.revision}"


def register(repository: Repository, reference: str, *, again: bool = False) -> str:
    version = repository.register(reference, "churn", again=again).version
    return f"{version.experiment}/{version.version}"


def pulled(repository: Repository, reference: str) -> str:
    """Return the text of an artifact, read at the backend."""
    to = repository.home.paths.root.parent / f"to-{new_guid()}"
    return repository.pull(reference, to).read_text()


def keys(repository: Repository, run: str) -> set[str]:
    """Return the keys of the bytes of a run that are there."""
    return {
        each.key
        for each in repository.backend.walk(run)
        if layout.upload_began(each.key) is not None
    }


def told_of(repository: Repository) -> list[str]:
    """Return what the journals say of letting go, oldest first."""
    kinds = {"retired", "unretired", *collection.ENTRIES.values()}
    return [each.kind for each in repository.log() if each.kind in kinds][::-1]


def states(repository: Repository, run: str) -> list[str]:
    """Return what was said of a run's parts, in order."""
    every = repository.runs_at_backend.collections
    return [every.record(run, number).state for number in every.numbers(run)]


# --- retiring ------------------------------------------------------------------------------------


def test_a_retired_version_keeps_its_number_its_bytes_for_a_while_and_who_retired_it(
    tmp_path: Path, url: str
) -> None:
    with two_hosts(tmp_path, url) as (one, other):
        version = register(one, upload(one, new_guid(), "one"))
        said = one.retire(version, reason="wrong data", by="ada")
        assert (said.created, said.retirement.reason) == (True, "wrong data")
        again = other.retire(version, reason="me too")
        assert (again.created, again.retirement) == (False, said.retirement)

        shown = other.describe(other.versions_at_backend.version("churn", 1))
        retired: Any = shown["retired"]
        assert (retired["retired_by"], retired["reason"]) == ("ada", "wrong data")
        assert shown["collected_at"] is None
        assert collect(other, days=13) == []
        assert pulled(other, version) == "one"
        assert register(one, upload(one, new_guid(), "two")) == "churn/2"
        one.push()
        assert other.verify(deep=True).ok
        assert told_of(one) == ["retired"]


def test_what_was_retired_is_a_conflict_to_register_and_to_promote(
    tmp_path: Path, url: str
) -> None:
    with two_hosts(tmp_path, url) as (one, other):
        stored = upload(one, new_guid(), "one")
        version = register(one, stored)
        one.retire(version)
        with pytest.raises(VersionRetired, match="churn/1 is retired") as refused:
            register(other, stored)
        assert "--again" in refused.value.hint
        with pytest.raises(VersionRetired):
            other.promote(version, "champion")
        assert register(other, stored, again=True) == "churn/2"
        assert other.unretire(version).created
        other.promote(version, "champion")
        with pytest.raises(VersionInUse, match="churn@champion"):
            one.retire(version)
        with pytest.raises(VersionRetired, match="never retired"):
            one.unretire("churn/2")
        with pytest.raises(InvalidName):
            one.retire(stored)


@pytest.mark.parametrize("step", APPENDING)
def test_killed_at_any_step_of_retiring_the_next_command_settles_it(
    tmp_path: Path, local: str, step: str
) -> None:
    with host(tmp_path / "a", local) as one:
        version = register(one, upload(one, new_guid(), "one"))
        assert dies(retire_at, one.home.paths.root, version, at=step)
        gc_finds = collect(one, days=0)
        assert gc_finds == []
        assert one.runs_at_backend.open_intents() == []
        is_there = step != "intent written"
        assert told_of(one) == (["retired"] if is_there else [])
        assert one.retire(version).created != is_there
        assert one.verify().ok


# --- collecting ----------------------------------------------------------------------------------


def test_a_retired_version_is_marked_then_collected_and_everybody_is_told_so(
    tmp_path: Path, url: str
) -> None:
    with two_hosts(tmp_path, url) as (one, other):
        stored = upload(one, run_id := new_guid(), "one")
        version = register(one, stored)
        one.retire(version, reason="wrong data", by="ada")
        one.push()
        part = f"{stored}/model"
        assert gone(collect(other, RETIRED, dry_run=True), MARK) == {part}
        assert gone(collect(other, RETIRED), MARK) == {part}
        # A day has to pass first, whoever collects.
        assert collect(one, RETIRED + 0.9) == []
        assert pulled(one, version) == "one"
        assert gone(collect(one, RETIRED + LATER), ARTIFACT) == {part}
        assert keys(one, run_id) == set()
        one.push()
        other.push()

        for each in (one, other):
            assert each.verify(deep=True).ok
            with pytest.raises(ArtifactCollected, match=r"retired: ada@.*wrong data"):
                pulled(each, version)
            with pytest.raises(ArtifactCollected):
                each.path(version)
            with pytest.raises(ArtifactCollected):
                each.verify(version)
            with pytest.raises(ArtifactCollected):
                each.unretire(version)
            with pytest.raises(ArtifactCollected):
                register(each, stored, again=True)
            assert each.resolve(version).version is not None
            assert collect(each, RETIRED + 30) == []
        one.fetch()
        assert told_of(one) == ["retired", "collection-marked", "collected"]
        assert one.retire(version).created is False


def test_a_run_of_which_all_was_collected_is_stored_anew_when_it_is_dropped_again(
    tmp_path: Path, url: str
) -> None:
    with host(tmp_path / "a", url) as one:
        guid = new_guid()
        version = register(one, upload(one, guid, "one"))
        one.retire(version)
        collect(one, RETIRED)
        # Marked bytes are not taken over either: they may be gone by the time of the commit.
        assert upload(one, guid, "one").endswith("~2")
        assert register(one, f"run:{guid}~2", again=True) == "churn/2"
        assert gone(collect(one, RETIRED + LATER), ARTIFACT) == {f"run:{guid}~1/model"}
        assert pulled(one, "churn/2") == "one"
        one.retire("churn/2")
        collect(one, RETIRED)
        assert gone(collect(one, RETIRED + 3), ARTIFACT) == {f"run:{guid}~2/model"}
        assert upload(one, guid, "one").endswith("~3")
        assert pulled(one, f"run:{guid}~3") == "one"
        assert one.verify(deep=True).ok


def test_superseded_revisions_go_but_the_newest_three_and_what_is_pinned(
    tmp_path: Path, url: str
) -> None:
    with two_hosts(tmp_path, url) as (one, other):
        guid = new_guid()
        stored = [upload(one, guid, f"text {number}") for number in range(6)]
        register(other, stored[1])
        other.promote("churn/1", "champion")
        marked = {f"{stored[0]}/model", f"{stored[2]}/model"}
        assert gone(collect(one, 0), MARK) == marked
        assert gone(collect(other, LATER), ARTIFACT) == marked
        for number in (1, 3, 4, 5):
            assert pulled(one, stored[number]) == f"text {number}"
        with pytest.raises(ArtifactCollected, match="superseded"):
            pulled(one, stored[0])
        one.push()
        other.push()
        assert one.verify(deep=True).ok


def test_bytes_that_another_artifact_has_taken_over_stay(tmp_path: Path, local: str) -> None:
    with host(tmp_path / "a", local) as one:
        guid = new_guid()
        first = upload(one, guid, "the same", "old name")
        register(one, first)
        upload(one, guid, "the same", "new name")
        assert len(keys(one, guid)) == 1
        one.retire("churn/1")
        collect(one, RETIRED)
        assert gone(collect(one, RETIRED + LATER), ARTIFACT) == {f"{first}/old name"}
        assert pulled(one, f"run:{guid}~2") == "the same"
        assert one.verify(deep=True).ok


def test_runs_of_which_nothing_is_registered_go_only_if_the_settings_say_so(
    tmp_path: Path, url: str
) -> None:
    with host(tmp_path / "a", url) as one:
        stored, kept = upload(one, new_guid(), "one"), upload(one, new_guid(), "two")
        register(one, kept)
        assert collect(one, 1000) == []
    config = one.home.paths.config
    config.write_text(config.read_text() + "\n[gc]\nunregistered_after = 864000\n")
    with Repository.open(one.home.paths.root) as one:
        assert collect(one, 9) == []
        assert gone(collect(one, 11), MARK) == {f"{stored}/model"}
        assert gone(collect(one, 11 + LATER), ARTIFACT) == {f"{stored}/model"}
        assert pulled(one, "churn/1") == "two"
        assert one.verify(deep=True).ok


def test_a_manifest_that_claims_the_bytes_of_another_run_has_none_of_them_deleted(
    tmp_path: Path, local: str
) -> None:
    with host(tmp_path / "a", local) as one:
        guid, forged = new_guid(), new_guid()
        register(one, upload(one, guid, "theirs"))
        manifest = one.backend.read(layout.numbered(layout.revisions(guid), 1))
        assert manifest is not None
        claim = replace(Revision.from_bytes(manifest, guid), run=forged, owner=new_guid())
        one.backend.create(layout.numbered(layout.revisions(forged), 1), claim.to_bytes())
        config = one.home.paths.config
        config.write_text(config.read_text() + "\n[gc]\nunregistered_after = 864000\n")
    with Repository.open(one.home.paths.root) as one:
        collect(one, 11)
        assert gone(collect(one, 11 + LATER), ARTIFACT) == {f"run:{forged}~1/model"}
        assert len(keys(one, guid)) == 1
        assert pulled(one, "churn/1") == "theirs"


def test_bytes_that_no_manifest_names_go_after_two_weeks(tmp_path: Path, url: str) -> None:
    with host(tmp_path / "a", url) as one:
        guid = new_guid()
        upload(one, guid, "one")
        now = datetime.now(UTC)
        ids = [layout.upload_at(now - timedelta(days=each)) + "-00112233" * 2 for each in (13, 15)]
        young, old = (layout.bytes_key(guid, each, "left") for each in ids)
        for key in (young, old):
            writer = one.backend.writer(key, 4)
            writer.write(b"left")
            writer.finish()
        assert gone(collect(one, 0, dry_run=True), BYTES) == {f"{one.backend.url}/{old}"}
        assert gone(collect(one, 0), BYTES) == {f"{one.backend.url}/{old}"}
        assert young in keys(one, guid)
        assert old not in keys(one, guid)
        assert gone(collect(one, 2), BYTES) == {f"{one.backend.url}/{young}"}
        assert one.verify(deep=True).ok


def test_what_may_not_go_any_more_is_kept_and_has_to_be_marked_anew(
    tmp_path: Path, local: str
) -> None:
    with host(tmp_path / "a", local) as one:
        guid = new_guid()
        version = register(one, upload(one, guid, "one"))
        one.retire(version)
        collect(one, RETIRED)
        one.unretire(version)
        assert states(one, guid) == [MARKED, KEPT]
        assert collect(one, RETIRED + LATER) == []
        one.retire(version)
        assert gone(collect(one, 2 * RETIRED), MARK) != set()
        assert pulled(one, version) == "one"
        assert one.verify().ok


def test_the_shorter_of_two_clocks_says_how_old_something_is(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host(tmp_path / "a", s3_url) as one:
        version = register(one, upload(one, new_guid(), "one"))
        one.retire(version)
        # This host's clock is a month ahead; the store's isn't.
        month = datetime.now(UTC) + timedelta(days=30)
        monkeypatch.setattr(gc, "_now", lambda: month)
        assert gc.collect_stored(one._sequences(), dry_run=False) == []
        # A mark that is made by such a clock ripens by it, too.
        clock = gc._clock(one.backend)
        assert clock.latest == month
        assert clock.earliest < month - timedelta(days=29)


# --- races ---------------------------------------------------------------------------------------


def test_who_registers_what_is_just_being_collected_wins_or_is_told(
    tmp_path: Path, url: str
) -> None:
    with two_hosts(tmp_path, url) as (one, other):
        guid = new_guid()
        stored = [upload(one, guid, f"text {number}") for number in range(4)]
        collect(one, 0)
        # After all pins were read, and before anything is collected.
        with at_step("pins read", lambda: register(other, stored[0])):
            assert collect(one, LATER) == []
        assert states(one, guid) == [MARKED, KEPT]
        assert pulled(one, "churn/1") == "text 0"
        one.push()
        other.push()
        assert one.verify(deep=True).ok


def test_who_registers_later_than_that_is_refused_and_no_version_is_without_bytes(
    tmp_path: Path, local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with two_hosts(tmp_path, local) as (one, other):
        refused_when_collected_before_the_claim(one, other, monkeypatch)
        assert other.experiments() == []
        assert other.verify(deep=True).ok


def refused_when_collected_before_the_claim(
    one: Repository, other: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Register what another host marks and collects after it was looked at, before the claim."""
    guid = new_guid()
    stored = [upload(one, guid, f"text {number}") for number in range(4)]
    claim = Registrations.claim

    def late(self: Registrations, registration: Registration) -> int:
        collect(one, 0)
        collect(one, LATER)
        return claim(self, registration)

    monkeypatch.setattr(Registrations, "claim", late)
    with pytest.raises(ArtifactCollected):
        register(other, stored[0])


def test_without_the_look_after_the_claim_the_same_check_is_red(
    tmp_path: Path, local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeldrop.departures.Wanted.claimed", lambda _: None)
    with two_hosts(tmp_path, local) as (one, other):
        with pytest.raises(pytest.fail.Exception):
            refused_when_collected_before_the_claim(one, other, monkeypatch)
        one.push()
        assert {each.kind for each in other.verify().findings} == {"version"}


def test_a_look_at_a_bucket_counts_for_an_hour(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collection, "_LOOK_SECONDS", -1.0)
    with two_hosts(tmp_path, s3_url) as (one, other):
        refused_when_collected_before_the_claim(one, other, monkeypatch)


def test_an_alias_that_was_put_on_a_version_while_it_was_retired_keeps_its_bytes(
    tmp_path: Path, local: str
) -> None:
    with host(tmp_path / "a", local) as one:
        alias_on_a_retired_version(one)
        assert pulled(one, "churn@champion") == "one"
        assert one.verify(deep=True).ok


def alias_on_a_retired_version(one: Repository) -> None:
    """Let all time pass for a version that was retired and promoted at the same moment."""
    version = register(one, upload(one, new_guid(), "one"))
    one.retire(version)
    rooms = (one.versions_at_backend, one.aliases_at_backend)
    promotion = Promotion(one.home, one.backend, one.journal, *rooms)
    record = one.versions_at_backend.version("churn", 1)
    promotion.place("churn", "champion", record, one._request(), by="ada")
    collect(one, RETIRED)
    collect(one, RETIRED + LATER)


def test_a_live_version_is_neither_retired_nor_collected_and_a_retired_one_not_deployed(
    tmp_path: Path, local: str
) -> None:
    with two_hosts(tmp_path, local) as (one, other):
        guids = [new_guid(), new_guid()]
        for guid in guids:
            register(one, upload(one, guid, f"text of {guid}"))
        one.add_target("production", tmp_path / "live")
        one.deploy("churn/1", "production")
        with pytest.raises(VersionInUse, match="churn@production"):
            other.retire("churn/1")
        other.retire("churn/2")
        with pytest.raises(VersionRetired):
            one.deploy("churn/2", "production")
        other.unretire("churn/2")
        one.deploy("churn/2", "production")
        # Not live any more, and what a rollback returns to.
        other.retire("churn/1")
        collect(other, RETIRED)
        collect(other, RETIRED + LATER)
        assert pulled(one, "churn/1") == f"text of {guids[0]}"
        one.push()
        other.push()
        assert other.verify(deep=True).ok


def test_a_retired_version_is_not_rolled_back_to(tmp_path: Path, local: str) -> None:
    with two_hosts(tmp_path, local) as (one, other):
        for text in ("one", "two", "three"):
            register(one, upload(one, new_guid(), text))
        one.add_target("production", tmp_path / "live")
        for number in (1, 2, 3):
            one.deploy(f"churn/{number}", "production")
        other.retire("churn/2", reason="trained on the wrong data")
        with pytest.raises(VersionRetired, match="wrong data") as caught:
            one.rollback("churn", "production")
        assert "--to N" in caught.value.hint
        assert one.deployments_at_backend.live("churn", "production").version == 3
        assert one.rollback("churn", "production", 1).deployment.version == 1
        other.unretire("churn/2")
        assert one.rollback("churn", "production", 2).deployment.version == 2


def test_if_aliases_are_not_read_the_same_check_is_red(
    tmp_path: Path, local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pins, "_used", lambda *_: set())
    with host(tmp_path / "a", local) as one:
        alias_on_a_retired_version(one)
        with pytest.raises(ArtifactCollected):
            pulled(one, "churn@champion")


def test_if_claims_are_not_read_a_registration_under_way_loses_its_bytes(
    tmp_path: Path, local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative of `test_a_claim_pins…`: so that this one can fail."""
    monkeypatch.setattr(Versions, "claims", lambda *_: [])
    with (
        two_hosts(tmp_path, local) as (one, other),
        pytest.raises(AssertionError, match="a day after the claim"),
    ):
        claim_of_a_dead_registration_pins(one, other)


def import_bundle(repository: Repository, path: Path) -> Report:
    with opening.bundle(path) as source:
        return carry(repository, source, Options())


def made_elsewhere(root: Path, *texts: str) -> Path:
    """Return a bundle of another repository, with a version of `churn` for each text."""
    with host(root / "elsewhere", str(root / "store elsewhere")) as origin:
        for text in texts:
            register(origin, upload(origin, new_guid(), text))
        pack(origin, [origin.resolve("churn")], root / "a.bundle", history=True)
    return root / "a.bundle"


def test_an_import_that_goes_on_never_refers_to_what_is_just_being_collected(
    tmp_path: Path, local: str
) -> None:
    bundle = made_elsewhere(tmp_path, "one")
    with two_hosts(tmp_path, local) as (one, other):
        text = one.home.paths.config.read_text() + "\n[gc]\nunregistered_after = 864000\n"
        one.home.paths.config.write_text(text)
        roots = one.home.paths.root, other.home.paths.root
    # It died once the run was here, and before there was a version.
    assert dies(work.import_bundle, roots[1], bundle, at="run imported")
    with Repository.open(roots[0]) as one, Repository.open(roots[1]) as other:
        assert len(gone(collect(one, 11), MARK)) == 1
        with at_step("pins read", lambda: import_bundle(other, bundle)):
            collect(one, 11 + LATER)
        collect(one, 11 + LATER)
        assert pulled(one, "churn/1") == "one"
        for each in (one, other):
            each.push()
        assert one.verify(deep=True).ok


def test_an_import_looks_just_before_its_claim_whether_the_artifact_goes(
    tmp_path: Path, local: str
) -> None:
    bundle = made_elsewhere(tmp_path, "one", "two")
    with two_hosts(tmp_path, local) as (one, other):
        text = one.home.paths.config.read_text() + "\n[gc]\nunregistered_after = 864000\n"
        one.home.paths.config.write_text(text)
        roots = one.home.paths.root, other.home.paths.root
    with Repository.open(roots[0]) as one, Repository.open(roots[1]) as other:
        # Two weeks pass between two versions, as they may for a machine that sleeps.
        with at_step("version imported", lambda: gone_by(one)):
            report = import_bundle(other, bundle)
        assert not report.complete
        assert "import it again" in report.waiting[0].reason
        assert import_bundle(other, bundle).complete
        assert pulled(one, "churn/2") == "two"
        for each in (one, other):
            each.push()
        assert one.verify(deep=True).ok


def gone_by(repository: Repository) -> None:
    collect(repository, 11)
    collect(repository, 11 + LATER)


def test_what_was_imported_is_as_old_as_its_import(tmp_path: Path, url: str) -> None:
    made = mlopsnet.empty(tmp_path / "net")
    experiment = made.add("Experiment", "churn", "2020-10-04 14:00:00")
    run_id, _ = made.run(experiment, b"nobody registered it")
    with host(tmp_path / "a", url) as one:
        text = one.home.paths.config.read_text() + "\n[gc]\nunregistered_after = 864000\n"
        one.home.paths.config.write_text(text)
        root = one.home.paths.root
    with Repository.open(root) as one:
        with opening.mlopsnet(made.database, made.folder) as source:
            carry(one, source, Options())
        stored = one.runs_at_backend.latest(run_id)
        assert stored is not None
        assert stored.committed_at.startswith("2020")
        assert collect(one, 9) == []
        assert len(gone(collect(one, 11), MARK)) == 1


def test_numbers_that_are_vacant_hold_up_nothing_and_pin_nothing(tmp_path: Path, url: str) -> None:
    with host(tmp_path / "elsewhere", str(tmp_path / "store elsewhere")) as origin:
        for text in ("one", "two"):
            register(origin, upload(origin, new_guid(), text))
        pack(origin, [origin.resolve("churn/2")], tmp_path / "a.bundle", history=False)
    with two_hosts(tmp_path, url) as (one, other):
        with opening.bundle(tmp_path / "a.bundle") as source:
            carry(one, source, Options(leave_vacant=True))
        register(one, stored := upload(one, new_guid(), "three"))
        one.retire("churn/3")
        for each in (one, other):
            each.push()
        assert gone(collect(other, RETIRED), MARK) == {f"{stored}/model"}
        assert gone(collect(one, RETIRED + LATER), ARTIFACT) == {f"{stored}/model"}
        assert pulled(one, "churn/2") == "two"
        for each in (one, other):
            each.push()
        assert one.verify(deep=True).ok


def test_a_claim_pins_what_somebody_may_be_about_to_register(tmp_path: Path, local: str) -> None:
    with two_hosts(tmp_path, local) as (one, other):
        claim_of_a_dead_registration_pins(one, other)
        [guid] = one.runs_at_backend.guids()
        assert register(one, f"run:{guid}~1") == "churn/1"


class _Died(BaseException):
    pass


def claim_of_a_dead_registration_pins(one: Repository, other: Repository) -> None:
    guid = new_guid()
    stored = [upload(one, guid, f"text {number}") for number in range(4)]

    def die() -> None:
        raise _Died

    with pytest.raises(_Died), at_step("claimed", die):
        register(other, stored[0])
    collect(one, 0)
    collect(one, LATER)
    assert len(keys(one, guid)) == 4, "a day after the claim"


def test_a_claim_on_a_whole_run_pins_each_artifact_of_the_revision_that_it_names(
    tmp_path: Path, local: str
) -> None:
    with host(tmp_path / "a", local) as one:
        guid = new_guid()
        upload(one, guid, "text")
        revision = one.runs_at_backend.committed(guid)
        [artifact] = revision.artifacts
        claim = Registration(
            owner="owner",
            experiment="churn",
            run=guid,
            artifact=".",
            sha256=revision.whole().sha256,
            nonce=None,
            starts_at=1,
            claimed_by="ada",
            claimed_at="2026-01-01T00:00:00.000000Z",
        )
        other = replace(claim, sha256="0" * 64)

        assert pins.Pins(claims={guid: [claim]}).holds(revision, artifact)
        assert not pins.Pins(claims={guid: [other]}).holds(revision, artifact)


def test_two_hosts_that_collect_at_once_do_it_once(tmp_path: Path, url: str) -> None:
    with two_hosts(tmp_path, url) as (one, other):
        guid = new_guid()
        for number in range(5):
            upload(one, guid, f"text {number}")
        with at_step("pins read", lambda: collect(other, 0)):
            collect(one, 0)
        assert states(one, guid) == [MARKED]
        with at_step("pins read", lambda: collect(other, LATER)):
            collect(one, LATER)
        assert states(one, guid) == [MARKED, COLLECTED]
        one.push()
        other.push()
        assert one.verify(deep=True).ok


def test_who_says_something_on_top_of_what_another_has_said_has_not_said_it(
    tmp_path: Path, local: str
) -> None:
    with two_hosts(tmp_path, local) as (one, other):
        guid = new_guid()
        upload(one, guid, "text")
        part = [LetGo(1, "model", "it is superseded")]

        said = one.runs_at_backend.collections.append(guid, MARKED, part, "ada", below=0)
        late = other.runs_at_backend.collections.append(guid, MARKED, part, "bob", below=0)

        assert said is not None
        assert late is None
        assert states(one, guid) == [MARKED]


@pytest.mark.parametrize(
    ("days", "is_deleted", "is_taken"),
    [(0.5, False, True), (2.0, False, True), (2.0, True, False), (13.5, False, False)],
)
def test_bytes_that_were_sent_long_ago_are_looked_at_once_more_before_they_are_committed(
    tmp_path: Path,
    local: str,
    monkeypatch: pytest.MonkeyPatch,
    days: float,
    is_deleted: bool,
    is_taken: bool,
) -> None:
    with host(tmp_path / "a", local) as one:
        guid = new_guid()
        path = model(tmp_path / "aside" / "model")
        monkeypatch.setattr(layout, "new_upload_id", lambda: _id_of(days))

        def sweep() -> None:
            for key in keys(one, guid) if is_deleted else ():
                one.backend.delete(key)

        with at_step("bytes stored", sweep):
            if is_taken:
                assert one.upload(guid, path).created
            else:
                with pytest.raises(BackendError, match="sent too long ago"):
                    one.upload(guid, path)
        assert one.verify(deep=True).ok


def test_bytes_that_are_others_than_were_sent_long_ago_are_not_committed(
    tmp_path: Path, local: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host(tmp_path / "a", local) as one:
        guid = new_guid()
        path = model(tmp_path / "aside" / "model")
        monkeypatch.setattr(layout, "new_upload_id", lambda: _id_of(2.0))

        def shorten() -> None:
            for key in keys(one, guid):
                os.truncate(tmp_path / "store" / key, 1)

        with (
            at_step("bytes stored", shorten),
            pytest.raises(BackendError, match="sent too long ago"),
        ):
            one.upload(guid, path)


def _id_of(days: float) -> str:
    began = datetime.now(UTC) - timedelta(days=days)
    return f"{layout.upload_at(began)}-{new_guid().replace('-', '')[:16]}"


# --- trouble -------------------------------------------------------------------------------------


def test_nothing_goes_where_the_journals_tell_of_what_is_not_there(
    tmp_path: Path, local: str
) -> None:
    with two_hosts(tmp_path, local) as (one, other):
        guid = new_guid()
        stored = [upload(one, guid, f"text {number}") for number in range(4)]
        register(one, stored[0])
        one.push()
        # The store was put back: the version is lost, and its bytes look as if nothing pins them.
        (Path(local) / layout.numbered(layout.versions("churn"), 1)).unlink()
        for registration in (Path(local) / layout.registrations("churn")).iterdir():
            registration.unlink()
        (found,) = collect(other, 0)
        assert found.kind == STORE
        assert "churn/1" in found.trouble
        assert states(other, guid) == []


@pytest.mark.parametrize(
    "what",
    [
        "versions/00000001.json",
        "aliases/champion/00000001.json",
        "retirements/00000001/00000001.json",
    ],
)
def test_nothing_goes_where_what_may_be_a_pin_is_damaged(
    tmp_path: Path, local: str, what: str
) -> None:
    with host(tmp_path / "a", local) as one:
        guid = new_guid()
        stored = [upload(one, guid, f"text {number}") for number in range(5)]
        register(one, stored[0])
        one.promote("churn/1", "champion")
        register(one, stored[4])
        one.promote("churn/2", "champion")
        one.retire("churn/1")
        path = Path(local) / layout.EXPERIMENTS / "churn" / what
        newest = path.with_name("00000002.json") if "aliases" in what else path
        newest.write_bytes(b"{}")
        (found,) = collect(one, RETIRED)
        assert found.kind == STORE
        assert states(one, guid) == []


def test_a_run_of_which_a_manifest_is_damaged_is_left_alone_and_the_others_are_not(
    tmp_path: Path, local: str
) -> None:
    with host(tmp_path / "a", local) as one:
        guids = [new_guid(), new_guid()]
        for guid in guids:
            for number in range(4):
                upload(one, guid, f"text {number}")
        manifest = Path(local) / layout.numbered(layout.revisions(guids[0]), 3)
        manifest.write_bytes(b"{}")
        assert gone(collect(one, 0), MARK) == {f"run:{guids[1]}~1/model"}
        assert states(one, guids[0]) == []


@pytest.mark.parametrize("kind", ["retirement", "collection", "version"])
def test_verify_names_what_is_wrong_with_what_was_let_go(
    tmp_path: Path, local: str, kind: str
) -> None:
    with host(tmp_path / "a", local) as one:
        guid = new_guid()
        version = register(one, upload(one, guid, "one"))
        one.retire(version)
        collect(one, RETIRED)
        collect(one, RETIRED + LATER)
        folder = Path(local)
        if kind == "retirement":
            (folder / layout.retirements("churn", 1) / "00000001.json").write_bytes(b"{}")
        elif kind == "collection":
            (folder / layout.collections(guid) / "00000001.json").unlink()
        else:
            retirements = one.retirements_at_backend
            record = one.versions_at_backend.version("churn", 1)
            # As nobody should: past its grace.
            retirements.say(record, one._request(), retired=False, by="ada", reason="")
        assert kind in {each.kind for each in one.verify().findings}


def test_a_rebuilt_journal_tells_of_what_was_let_go(tmp_path: Path, local: str) -> None:
    with host(tmp_path / "a", local) as one:
        version = register(one, upload(one, new_guid(), "one"))
        one.retire(version)
        collect(one, RETIRED)
        collect(one, RETIRED + LATER)
        before = told_of(one)
        one.home.paths.journal.unlink()
        one.home.paths.head.unlink()
    with Repository.open(one.home.paths.root) as one:
        one.rebuild()
        assert sorted(told_of(one)) == sorted(before)
        assert one.verify().ok


# --- crashes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [*APPENDING, "marked", "pins read"])
def test_killed_at_any_step_of_marking_the_next_gc_settles_it(
    tmp_path: Path, local: str, step: str
) -> None:
    with two_hosts(tmp_path, local) as (one, other):
        guid = new_guid()
        stored = [upload(one, guid, f"text {number}") for number in range(5)]
        register(one, stored[1])
        assert dies(collect_at, one.home.paths.root, 0, at=step)
        collect(one, 0)
        assert states(one, guid) == [MARKED]
        assert told_of(one) == ["collection-marked"]
        assert one.runs_at_backend.open_intents() == []
        one.push()
        assert other.verify(deep=True).ok


@pytest.mark.parametrize("step", [*APPENDING, "collected", "key deleted"])
@pytest.mark.parametrize("who", ["same host", "other host"])
def test_killed_at_any_step_of_collecting_nothing_pinned_is_missing_and_the_next_gc_settles_it(
    tmp_path: Path, local: str, step: str, who: str
) -> None:
    collect_with_a_death(tmp_path, local, step, who)


@pytest.mark.parametrize("step", ["record appended", "key deleted"])
def test_the_same_on_an_object_store(tmp_path: Path, s3_url: str, step: str) -> None:
    collect_with_a_death(tmp_path, s3_url, step, "other host")


def collect_with_a_death(tmp_path: Path, url: str, step: str, who: str) -> None:
    """Collect, die, have somebody else or nobody collect, and settle."""
    with two_hosts(tmp_path, url) as (one, other):
        guid = new_guid()
        stored = [upload(one, guid, f"text {number}") for number in range(6)]
        register(one, stored[1])
        collect(one, 0)
        assert dies(collect_at, one.home.paths.root, LATER, at=step)
        assert pulled(other, "churn/1") == "text 1"
        if who == "other host":
            # Not settled yet, and no damage.
            one.push()
            assert other.verify(deep=True).ok
            collect(other, LATER)
            other.push()
        collect(one, LATER)
        one.push()
        assert states(one, guid) == [MARKED, COLLECTED]
        other.fetch()
        assert told_of(other).count("collected") == 1
        assert one.runs_at_backend.open_intents() == []
        assert len(keys(one, guid)) == 4
        for each in (one, other):
            assert each.verify(deep=True).ok
            assert collect(each, LATER) == []


# --- the program ---------------------------------------------------------------------------------


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str]) -> Program:
    return in_process(capsys)


def test_the_program_retires_shows_and_collects(
    tmp_path: Path, local: str, program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    with host(tmp_path / "a", local) as one:
        version = register(one, upload(one, new_guid(), "one"))
    call = ("--home", str(one.home.paths.root))
    done = program(*call, "retire", version, "--reason", "wrong data", "--by", "ada")
    assert (done.code, done.lines) == (0, [version])
    assert "It is retired." in done.err
    assert "nothing was changed" in program(*call, "retire", version).err
    told = program(*call, "retire", version, "--undo", "--json").json
    assert (told["retired"], told["changed"]) == (False, True)
    program(*call, "retire", version, "--reason", "wrong data", "--by", "ada")
    shown = program(*call, "show", version)
    assert "by ada@" in shown.out
    assert "wrong data" in shown.out
    assert program(*call, "promote", version, "champion").code == 11

    monkeypatch.setattr(gc, "_now", lambda: datetime.now(UTC) + timedelta(days=RETIRED))
    assert "1 would be marked" in program(*call, "gc", "--dry-run").err
    assert "1 marked: a `modeldrop gc` tomorrow" in program(*call, "gc").err
    monkeypatch.setattr(gc, "_now", lambda: datetime.now(UTC) + timedelta(days=RETIRED + LATER))
    told = program(*call, "gc", "--json").json
    assert [each["kind"] for each in told["collected"]] == ["artifact"]
    shown = program(*call, "show", version, "--json").json
    assert shown["collected_at"]
    assert "its bytes are gone" in program(*call, "show", version).out
    refused = program(*call, "pull", version)
    assert refused.code == 10
    assert "was collected at" in refused.err
    assert program(*call, "verify", "--deep").code == 0


def test_the_program_says_why_nothing_may_go(tmp_path: Path, local: str, program: Program) -> None:
    with host(tmp_path / "a", local) as one:
        register(one, upload(one, new_guid(), "one"))
    (Path(local) / layout.versions("churn") / "00000001.json").write_bytes(b"{}")
    done = program("--home", str(one.home.paths.root), "gc")
    assert done.code == 3
    assert "nothing that is stored was collected" in done.err


def test_what_a_collection_said_is_not_said_twice(tmp_path: Path, local: str) -> None:
    with host(tmp_path / "a", local) as one:
        guid = new_guid()
        upload(one, guid, "one")
        every = one.runs_at_backend.collections
        part = (LetGo(1, "model", "a test"),)
        assert every.append(guid, MARKED, part, "ada", below=0) is not None
        assert every.append(guid, KEPT, part, "ada", below=0) is None
        assert states(one, guid) == [MARKED]


def test_another_process_sees_what_was_let_go(tmp_path: Path, local: str) -> None:
    with host(tmp_path / "a", local) as one:
        guid = new_guid()
        for number in range(4):
            upload(one, guid, f"text {number}")
        found = run(collect_at, one.home.paths.root, 0)
        assert found == [f"run:{guid}~1/model"]
        backend = open_backend(local, {}, None)
        with contextlib.closing(backend):
            assert backend.stat(layout.numbered(layout.collections(guid), 1)) is not None


def test_nothing_goes_where_a_version_is_missing(repository: Repository) -> None:
    for number in (1, 2):
        store(repository, f"version {number}", "gappy")
    key = layout.numbered(layout.versions("gappy"), 1)
    (repository.home.paths.root / "model-repository" / key).unlink()

    [nothing] = collect(repository, 60)

    assert nothing.kind == STORE
    assert "versions of gappy are missing" in nothing.trouble


def test_a_collection_holds_little_of_each_run(tmp_path: Path, local: str) -> None:
    with host(tmp_path / "a", local) as repository:

        def held(more: int) -> int:
            """Return the most bytes that a collection holds, with so many runs more."""
            for _ in range(more):
                upload(repository, new_guid(), "weights")
            tracemalloc.start()
            try:
                assert collect(repository, LATER) == []
                return tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

        held(40)  # and what is imported on the way
        few, many = held(0), held(400)
        assert (many - few) / 400 < 1024
