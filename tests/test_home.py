"""The home: where it is looked for, whose it is, and what a copy of it does."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldrop import Repository, home
from modeldrop.backend import probe
from modeldrop.errors import (
    ConfigError,
    Conflict,
    HomeNotFound,
    NewerFormat,
    OutcomeUnknown,
    RecordDamaged,
)
from modeldrop.form import canonical
from modeldrop.home import find, open_home
from modeldrop.layout import FORMAT_KEY, HomePaths
from modeldrop.names import new_guid
from support import work
from support.children import run
from support.meanwhile import meanwhile
from support.stores import Faulty, make_home, model, quick_pauses, set_backend


def plain_home(root: Path) -> Path:
    """Make what is recognised as a home, without a backend."""
    root.mkdir(parents=True)
    (root / "home.json").touch()
    return root


def edit(path: Path, **changes: object) -> None:
    """Change fields of a record, and give it the right digest again."""
    found = {**json.loads(path.read_bytes()), **changes}
    found["record_sha256"] = hashlib.sha256(canonical(found)).hexdigest()
    path.write_text(json.dumps(found))


# Where it is


def test_nearest_home_at_or_above_the_working_folder_is_used(tmp_path: Path) -> None:
    upper = plain_home(tmp_path / ".mlops")
    inner = plain_home(tmp_path / "a" / "b" / ".mlops")
    below = tmp_path / "a" / "b" / "c" / "d"
    below.mkdir(parents=True)

    assert find(below) == inner
    assert find(tmp_path / "a" / "b") == inner
    assert find(tmp_path / "a") == upper
    assert find() == upper  # the working folder of a test is its own


def test_without_one_the_home_of_the_user_is_used(tmp_path: Path) -> None:
    personal = plain_home(Path.home() / ".mlops")

    assert find(tmp_path) == personal
    assert find(plain_home(tmp_path / ".mlops").parent) == tmp_path / ".mlops"


def test_variable_overrides_both_and_a_wrong_one_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain_home(tmp_path / ".mlops")
    named = plain_home(tmp_path / "elsewhere")

    monkeypatch.setenv("MODELDROP_HOME", str(named))
    assert find() == named
    monkeypatch.setenv("MODELDROP_HOME", "elsewhere")
    assert find() == named
    monkeypatch.setenv("MODELDROP_HOME", "")
    assert find() == tmp_path / ".mlops"

    monkeypatch.setenv("MODELDROP_HOME", str(tmp_path / "nowhere"))
    with pytest.raises(HomeNotFound, match=r"MODELDROP_HOME names .*nowhere"):
        find()


def test_no_home_names_every_place_that_was_searched(tmp_path: Path) -> None:
    with pytest.raises(HomeNotFound) as caught:
        find(tmp_path)

    assert str(tmp_path) in caught.value.message
    assert str(Path.home() / ".mlops") in caught.value.message
    assert "modeldrop init" in caught.value.hint
    assert caught.value.exit_code == 10


def test_folder_of_that_name_that_is_no_home_is_passed_over(tmp_path: Path) -> None:
    upper = plain_home(tmp_path / ".mlops")
    (tmp_path / "a" / ".mlops").mkdir(parents=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / ".mlops").touch()

    assert find(tmp_path / "a") == upper
    assert find(tmp_path / "b") == upper
    for place in (tmp_path / "a", tmp_path / "b" / ".mlops"):
        with pytest.raises(HomeNotFound, match="is no home"):
            open_home(place)


@contextlib.contextmanager
def public_folder() -> Iterator[Path]:
    """Make a folder that every user can reach, as a test's own isn't."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_private_home_of_another_user_is_none_of_mine(monkeypatch: pytest.MonkeyPatch) -> None:
    with public_folder() as folder:
        theirs = plain_home(folder / ".mlops")
        (folder / "project").mkdir()
        assert find(folder / "project") == theirs
        theirs.chmod(0o700)
        monkeypatch.setenv("HOME", str(folder / "me"))

        os.seteuid(65534)
        try:
            with pytest.raises(HomeNotFound):
                find(folder / "project")
            mine = folder / "project" / ".mlops"
            with pytest.raises(ConfigError, match="can't be read"):
                open_home(theirs)
        finally:
            os.seteuid(0)
        plain_home(mine)
        assert find(folder / "project") == mine


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a home to another user")
@pytest.mark.parametrize("what", ["", "config.toml"])
def test_home_of_another_user_is_used_only_if_it_is_named(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_home(tmp_path / ".mlops").home.paths.root
    os.chown(root / what, 65534, 65534)

    with pytest.raises(ConfigError, match="belongs to") as caught:
        Repository.open()
    assert f"`--home {root}`" in caught.value.hint
    assert "MODELDROP_HOME" in caught.value.hint
    open_home(root)
    monkeypatch.setenv("MODELDROP_HOME", str(root))
    open_home()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")
def test_home_of_root_is_anybodys(monkeypatch: pytest.MonkeyPatch) -> None:
    with public_folder() as folder:
        root = make_home(folder / ".mlops").home.paths.root
        for path in (root, root / "home.json", root / "config.toml"):
            path.chmod(0o755)
        monkeypatch.chdir(folder)
        os.seteuid(65534)
        try:
            assert open_home().paths.root == root
        finally:
            os.seteuid(0)


def test_relative_staging_is_in_the_home_wherever_it_is_used_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_home(tmp_path / ".mlops").home.paths.root
    (root / "config.toml").write_text('[staging]\npath = "../drops"\n')
    (tmp_path / "below").mkdir()

    for folder in (tmp_path, tmp_path / "below"):
        monkeypatch.chdir(folder)
        assert open_home().staging == tmp_path / "drops"


# Making and opening


def test_new_home_is_whole_private_and_opens_the_same(tmp_path: Path) -> None:
    made = make_home(tmp_path / ".mlops").home
    opened = open_home(tmp_path / ".mlops")

    assert (opened.id, opened.repository) == (made.id, made.repository)
    assert made.paths.root.stat().st_mode & 0o777 == 0o700
    assert made.paths.config.stat().st_mode & 0o777 == 0o600
    assert all(folder.is_dir() for folder in made.paths.folders())
    assert opened.staging.is_dir()
    assert opened.probe() is not None
    assert [entry.kind for entry in Repository.open(tmp_path / ".mlops").log()] == ["home-created"]


def test_init_of_a_home_that_is_there_opens_it_and_changes_nothing(tmp_path: Path) -> None:
    made = make_home(tmp_path / ".mlops")

    again, is_new = Repository.init(tmp_path / ".mlops")

    assert not is_new
    assert again.home.id == made.home.id
    with pytest.raises(Conflict, match="backend"):
        Repository.init(tmp_path / ".mlops", backend=str(tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_two_that_init_one_home_at_once_make_one_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / ".mlops"
    meanwhile(monkeypatch, probe, "race", lambda: Repository.init(root))
    repository, made = Repository.init(root)

    assert not made
    assert open_home(root).id == repository.home.id
    repository.upload(new_guid(), model(tmp_path / "aside" / "model"))
    assert {each.home for each in repository.log()} == {repository.home.id}
    assert [each.kind for each in repository.log()] == ["committed", "home-created"]


def test_init_that_died_before_its_last_step_left_no_home_and_is_done_again(
    tmp_path: Path,
) -> None:
    made = make_home(tmp_path / ".mlops", tmp_path / "backend")
    (tmp_path / ".mlops" / "home.json").unlink()

    with pytest.raises(HomeNotFound):
        open_home(tmp_path / ".mlops")
    again = make_home(tmp_path / ".mlops", tmp_path / "backend")

    assert again.home.repository == made.home.repository
    assert again.verify().ok


def test_home_of_a_later_format_is_refused_with_what_it_needs(tmp_path: Path) -> None:
    make_home(tmp_path / ".mlops")
    edit(tmp_path / ".mlops" / "home.json", format=2, needs="modeldrop 2.0")

    with pytest.raises(NewerFormat, match=r"home\.json is of format 2") as caught:
        Repository.open(tmp_path / ".mlops")
    assert "modeldrop 2.0" in caught.value.hint
    with pytest.raises(NewerFormat):
        Repository.init(tmp_path / ".mlops")


def test_backend_of_a_later_format_is_read_and_not_written(tmp_path: Path) -> None:
    repository = make_home(tmp_path / ".mlops", tmp_path / "backend")
    run = new_guid()
    repository.upload(run, model(tmp_path / "m"))
    edit(tmp_path / "backend" / FORMAT_KEY, format=2, needs="modeldrop 2.0")
    before = sorted((tmp_path / "backend").rglob("*"))

    later = Repository.open(tmp_path / ".mlops")
    for write in (
        lambda: later.upload(new_guid(), tmp_path / "m"),
        lambda: later.register(run, "churn"),
        later.engine,
        lambda: Repository.init(tmp_path / "other", backend=str(tmp_path / "backend")),
    ):
        with pytest.raises(NewerFormat) as caught:
            write()
        assert "modeldrop 2.0" in caught.value.hint

    assert later.resolve(run).revision.revision == 1
    assert sorted((tmp_path / "backend").rglob("*")) == before
    assert not (tmp_path / "other").exists()


def test_damaged_record_of_a_home_is_reported_by_name(tmp_path: Path) -> None:
    make_home(tmp_path / ".mlops")
    record = tmp_path / ".mlops" / "home.json"
    record.write_bytes(record.read_bytes().replace(b"created_by", b"created_bi"))

    with pytest.raises(RecordDamaged, match=r"home\.json"):
        open_home(tmp_path / ".mlops")


@pytest.mark.scenario(53)
def test_home_that_others_can_write_is_refused_with_the_command_that_mends_it(
    tmp_path: Path,
) -> None:
    root = make_home(tmp_path / ".mlops").home.paths.root
    root.chmod(0o707)

    with pytest.raises(ConfigError, match="every user of this machine") as caught:
        open_home(root)
    assert caught.value.hint == f"run `chmod o-w {root}`"

    root.chmod(0o700)
    open_home(root)


def test_backend_that_holds_another_repository_is_not_written(tmp_path: Path) -> None:
    make_home(tmp_path / ".mlops", tmp_path / "backend")
    (tmp_path / "backend").rename(tmp_path / "old")
    make_home(tmp_path / "other", tmp_path / "backend")

    with pytest.raises(ConfigError, match="holds the repository"):
        Repository.open(tmp_path / ".mlops").upload(new_guid(), model(tmp_path / "m"))


# One home is one host


def copy(root: Path, to: Path) -> Repository:
    """Copy a home, and open the copy."""
    shutil.copytree(root, to, symlinks=True)
    return Repository.open(to)


def test_copied_home_takes_a_new_id_and_begins_a_journal_that_names_the_old_one(
    tmp_path: Path,
) -> None:
    original = make_home(tmp_path / "one", tmp_path / "backend")
    original.upload(new_guid(), model(tmp_path / "m"))
    paths = HomePaths(tmp_path / "two")

    copied = copy(tmp_path / "one", tmp_path / "two")
    # Reading isn't writing: it shows what it was copied with.
    assert [entry.kind for entry in copied.log()] == ["committed", "home-created"]
    copied.upload(new_guid(), model(tmp_path / "m"))

    assert copied.home.id != original.home.id
    newest, first = list(copied.log())
    assert (first.kind, first.details) == ("home-copied", {"copied_from": original.home.id})
    assert (newest.kind, newest.seq, newest.home) == ("committed", 2, copied.home.id)
    kept = paths.root / f"journal-{original.home.id}.jsonl"
    assert kept.read_bytes() == original.home.paths.journal.read_bytes()
    assert (paths.root / f"HEAD-{original.home.id}").exists()
    assert copied.verify(deep=True).ok
    # For good: it isn't copied once more when it is opened again, and the original is unmoved.
    assert Repository.open(tmp_path / "two").home.claim() is None
    assert Repository.open(tmp_path / "one").home.claim() is None


def test_copied_home_can_be_read_wherever_its_claim_died(tmp_path: Path) -> None:
    make_home(tmp_path / "one", tmp_path / "backend").upload(new_guid(), model(tmp_path / "m"))

    deaths = run(work.claim_and_die_everywhere, tmp_path / "one")

    assert deaths > 20


def test_copied_home_whose_claim_died_half_way_names_the_old_one_all_the_same(
    tmp_path: Path,
) -> None:
    original = make_home(tmp_path / "one", tmp_path / "backend")
    copied = copy(tmp_path / "one", tmp_path / "two")
    assert copied.home.claim() == original.home.id
    # It dies here, before the journal begins.

    after = Repository.open(tmp_path / "two")
    after.upload(new_guid(), model(tmp_path / "m"))

    assert [entry.kind for entry in after.log()] == ["committed", "home-copied"]
    assert list(after.log())[-1].details == {"copied_from": original.home.id}


def test_home_on_another_machine_takes_a_new_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = make_home(tmp_path / "one")
    monkeypatch.setattr(home, "machine_id", lambda: "0" * 32)

    elsewhere = Repository.open(tmp_path / "one")
    elsewhere.ready_to_write()

    assert elsewhere.home.id != original.home.id


def test_moved_home_stays_the_same(tmp_path: Path) -> None:
    original = make_home(tmp_path / "one", tmp_path / "backend")
    (tmp_path / "one").rename(tmp_path / "two")

    moved = Repository.open(tmp_path / "two")
    moved.ready_to_write()

    assert moved.home.id == original.home.id


@pytest.mark.parametrize("how", ["moved", "copied"])
def test_home_with_the_embedded_backend_works_on_wherever_its_folder_goes(
    tmp_path: Path, how: str
) -> None:
    before, after = tmp_path / "before" / ".mlops", tmp_path / "after" / ".mlops"
    with Repository.init(before)[0] as repository:
        run = new_guid()
        repository.upload(run, model(tmp_path / "m"))
        repository.register(run, "churn")
    if how == "moved":
        before.parent.rename(after.parent)
    else:
        shutil.copytree(before.parent, after.parent)

    with Repository.open(after) as repository:
        assert [each.version for each in repository.versions("churn")] == [1]
        assert repository.register(run, "churn", again=True).version.version == 2
        assert repository.verify(deep=True).ok


def test_two_that_open_a_copied_home_agree_on_its_new_id(tmp_path: Path) -> None:
    make_home(tmp_path / "one", tmp_path / "backend")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    first, second = (Repository.open(tmp_path / "two") for _ in range(2))
    assert list(second.log())

    for each in (first, second):
        each.upload(new_guid(), model(tmp_path / "m"))

    assert first.home.id == second.home.id
    assert {entry.home for entry in second.log()} == {first.home.id}
    assert [entry.kind for entry in second.log()] == ["committed", "committed", "home-copied"]


def test_copied_home_settles_the_originals_open_intent_without_taking_it_for_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick_pauses(monkeypatch)
    run = new_guid()
    make_home(tmp_path / "one", tmp_path / "backend")
    original = Repository.open(tmp_path / "one")
    backend = Faulty(tmp_path / "backend", *["dropped"] * 99, only="/revisions/")
    set_backend(original, backend)
    with pytest.raises(OutcomeUnknown):
        original.upload(run, model(tmp_path / "m"))
    assert original.runs_at_backend.open_intents()

    copied = copy(tmp_path / "one", tmp_path / "two")
    again = copied.upload(run, tmp_path / "m")

    assert (again.revision.revision, again.created) == (1, False)
    assert copied.runs_at_backend.open_intents() == []
    assert [entry.kind for entry in copied.log()] == ["home-copied"]
    # The original still has its own, and its own journal gets the entry.
    late = Repository.open(tmp_path / "one")
    assert not late.upload(run, tmp_path / "m").created
    assert [entry.kind for entry in late.log()] == ["committed", "home-created"]
    assert late.runs_at_backend.open_intents() == []


def test_home_on_a_network_file_system_is_made_only_by_who_accepts_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modeldrop.intake.is_network", lambda _: True)

    with pytest.raises(ConfigError, match="is on a network file system"):
        Repository.init(tmp_path / "home")
    assert not (tmp_path / "home").exists()

    Repository.init(tmp_path / "home", network_home=True)[0].close()
