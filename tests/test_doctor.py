"""`modeldrop doctor`: what is off is named, with what to do; what is in order is not."""

import contextlib
import json
import os
import shutil
import struct
import time
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from modeldrop import Repository, locks
from modeldrop.backend import open_backend
from modeldrop.doctor import OK, PROBLEM, WARNING, Check, at_home, at_staging, diagnose
from modeldrop.doctor.permissions import Access, DefaultAcl, access_of, parse
from modeldrop.home_records import Intent
from modeldrop.intake.lease import Writers
from modeldrop.intents import Intents
from modeldrop.layout import FORMAT_KEY
from modeldrop_cli.main import main
from modeldrop_cli.objects.tending import DoctorObject
from support.intake import make_home
from support.reference import differences
from support.servers import GcsServer
from support.service import Home

NOBODY = 65534


def found(root: Path, *, probe: bool = False) -> dict[str, Check]:
    return {each.name: each for each in diagnose(root, probe=probe)}


def root_of(repository: Repository) -> Path:
    return repository.home.paths.root


def test_new_home_has_no_problem_and_lacks_only_its_service(repository: Repository) -> None:
    checks = found(root_of(repository), probe=True)

    assert [each.name for each in checks.values() if each.result != OK] == ["service"]
    assert "`systemctl start modeldropd`" in checks["service"].todo
    assert all(each.todo == "" for each in checks.values() if each.result == OK)
    assert checks["create if absent"].what.startswith("held just now")


def test_looking_changes_nothing(repository: Repository) -> None:
    root = root_of(repository)

    def seen() -> list[tuple[str, int]]:
        return sorted((str(each), each.stat().st_size) for each in root.rglob("*"))

    before = seen()
    list(diagnose(root))

    assert seen() == before


def test_what_held_at_another_endpoint_or_holds_no_more_is_said_with_its_date(
    gcs: GcsServer, careless_gcs: GcsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.endpoint)
    url = gcs.make_bucket()
    made, _ = Repository.init(tmp_path / "home", backend=url)
    with made:
        verdict = made.home.probe()
        record = made.backend.read(FORMAT_KEY)
    assert verdict is not None
    assert record is not None
    root = root_of(made)
    assert found(root, probe=True)["create if absent"].result == OK

    # The environment leads to another server from now on, which holds the same repository.
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", careless_gcs.endpoint)
    careless_gcs.make_bucket(url.removeprefix("gs://"))
    with contextlib.closing(open_backend(url, {}, None)) as backend:
        backend.create(FORMAT_KEY, record)

    elsewhere = found(root)["create if absent"]
    assert elsewhere.result == WARNING
    assert gcs.endpoint in elsewhere.what
    assert careless_gcs.endpoint in elsewhere.what
    assert "--probe" in elsewhere.todo
    now = found(root, probe=True)["create if absent"]
    assert now.result == PROBLEM
    assert f"it held at {verdict.probed_at}" in now.what
    # What was recorded stays as it was.
    assert made.home.probe() == verdict


def test_running_service_is_found_and_its_lease_for_others(tmp_path: Path) -> None:
    home = Home(tmp_path)
    service = home.start_ready()

    checks = found(home.root)

    assert checks["service"].result == OK
    assert str(service.process.pid) in checks["service"].what
    assert service.stop() == 0
    home.close()


def test_home_that_others_may_write_to(repository: Repository) -> None:
    root = root_of(repository)
    root.chmod(0o770)
    assert found(root)["home permissions"].result == PROBLEM

    root.chmod(0o750)
    assert found(root)["home permissions"].result == WARNING

    # Refused by every command; nothing else is known of it then.
    root.chmod(0o777)
    checks = found(root)
    assert list(checks) == ["home"]
    assert checks["home"].result == PROBLEM
    assert "chmod o-w" in checks["home"].todo


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_home_of_somebody_else_says_as_whom_to_ask(repository: Repository) -> None:
    root = root_of(repository)
    os.chown(root, NOBODY, NOBODY)

    assert "runuser -u nobody" in found(root)["home"].todo


def test_setting_that_is_not_valid(repository: Repository) -> None:
    (root_of(repository) / "config.toml").write_text("[service]\nquiet = 1\n")

    (check,) = diagnose(root_of(repository))

    assert check.result == PROBLEM
    assert "quiet_time" in check.todo


def test_copied_home_is_named(repository: Repository, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(root_of(repository), copy)

    assert found(root_of(repository))["home id"].result == OK
    assert found(copy)["home id"].result == WARNING


def test_damaged_end_of_the_journal_is_a_problem_and_the_rest_is_looked_at(
    repository: Repository,
) -> None:
    path = repository.home.paths.journal
    data = bytearray(path.read_bytes())
    data[-20] ^= 1
    path.write_bytes(data)

    checks = found(root_of(repository))

    assert checks["journal"].result == PROBLEM
    assert "damaged" in checks["journal"].what
    assert checks["backend"].result == OK


def test_bytes_past_head_are_named(repository: Repository) -> None:
    with repository.home.paths.journal.open("ab") as file:
        file.write(b"torn")

    assert found(root_of(repository))["journal end"].what.startswith("4 bytes past HEAD")


def test_intent_that_stays_open_is_named(repository: Repository) -> None:
    def leave(request: str, begun_at: str) -> None:
        intent = Intent(
            request=request,
            sequence="s",
            owner="o",
            starts_at=1,
            journal_seq=1,
            journal_offset=0,
            user="ada",
            begun_at=begun_at,
        )
        Intents(repository.home.paths.intents).begin(intent)

    assert found(root_of(repository))["intents"].result == OK
    leave("4b7f3c2e-0000-4000-8000-000000000000", "2026-01-01T00:00:00.000Z")
    assert found(root_of(repository))["intents"].result == WARNING


def test_clock_behind_the_journal_is_a_problem(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_home, "_SKEW", -time.time())

    assert found(root_of(repository))["clock"].result == PROBLEM


def test_backend_that_was_exchanged(repository: Repository) -> None:
    record = root_of(repository) / "model-repository" / ".modeldrop" / "format.json"
    record.unlink()

    checks = found(root_of(repository))

    assert checks["backend"].result == PROBLEM
    assert "holds no repository" in checks["backend"].what


def test_backend_that_does_not_answer(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path, s3_url)
    assert found(home.root)["backend"].result == OK
    S3FileSystem.clear_instance_cache()
    # The port of "discard", where nobody listens.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")

    checks = found(home.root)

    assert checks["backend"].result == PROBLEM
    # And the rest is looked at all the same.
    assert checks["staging"].result == OK


def test_space_below_the_reserve_is_a_problem(tmp_path: Path) -> None:
    with make_home(tmp_path / ".mlops") as repository:
        root = root_of(repository)
    with (root / "config.toml").open("a") as file:
        file.write("\nreserve = 1000000000000000000\n")

    checks = found(root)

    assert checks["space: home"].result == PROBLEM
    assert checks["space: backend"].result == PROBLEM


def test_staging_that_is_gone(repository: Repository, staging: Path) -> None:
    staging.rmdir()

    checks = found(root_of(repository))

    assert checks["staging"].result == PROBLEM
    assert f"mkdir {staging}" in checks["staging"].todo


def test_too_few_watches(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = tmp_path / "max_user_watches"
    limit.write_text("1\n")
    monkeypatch.setattr(at_staging, "_LIMIT", limit)

    assert found(root_of(repository))["events"].result == WARNING


# Staging that several people share


@pytest.mark.parametrize(
    ("mode", "sticky", "group"),
    [
        (0o777, PROBLEM, WARNING),
        (0o1777, OK, WARNING),
        (0o2770, WARNING, OK),
        (0o3770, OK, OK),
        (0o770, WARNING, WARNING),
    ],
    ids=lambda value: oct(value) if isinstance(value, int) else value,
)
def test_shared_staging_is_sticky_and_keeps_its_group(
    repository: Repository, staging: Path, mode: int, sticky: str, group: str
) -> None:
    staging.chmod(mode)

    checks = found(root_of(repository))

    assert checks["sticky"].result == sticky
    assert checks["group"].result == group
    if sticky != OK:
        assert checks["sticky"].todo == f"`chmod +t {staging}`"


def test_staging_of_one_person_is_not_held_to_that(repository: Repository, staging: Path) -> None:
    staging.chmod(0o755)

    checks = found(root_of(repository))

    assert not {"sticky", "group", "default ACL"} & set(checks)


def acl(*entries: tuple[int, int]) -> bytes:
    packed = (struct.pack("<HHI", tag, permissions, 0xFFFFFFFF) for tag, permissions in entries)
    return struct.pack("<I", 2) + b"".join(packed)


USER, GROUP, MASK, OTHER = 0x01, 0x04, 0x10, 0x20


def test_default_acl_says_what_the_group_gets() -> None:
    # user::rwx group::r-x mask::rwx other::---
    good = acl((USER, 7), (GROUP, 5), (MASK, 7), (OTHER, 0))
    assert parse(good) == DefaultAcl(refuses_group=False)
    # The mask takes it away again.
    assert parse(acl((USER, 7), (GROUP, 5), (MASK, 0), (OTHER, 0))) == DefaultAcl(
        refuses_group=True
    )
    for odd in (b"", good[:-1], b"\3" + good[1:]):
        assert parse(odd) is None


@pytest.mark.parametrize(("group", "result"), [(5, OK), (0, WARNING)])
def test_default_acl_of_staging_is_read(
    repository: Repository, staging: Path, group: int, result: str
) -> None:
    staging.chmod(0o3770)
    entries = acl((USER, 7), (GROUP, group), (MASK, 7), (OTHER, 0))
    try:
        os.setxattr(staging, "system.posix_acl_default", entries)
    except OSError as error:
        pytest.skip(f"no ACLs here: {error}")

    assert found(root_of(repository))["default ACL"].result == result


def test_access_goes_by_owner_then_group_then_others(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    seen = path.stat()
    mine, member = Access(seen.st_uid or 1, frozenset()), Access(77, frozenset({seen.st_gid}))
    stranger = Access(78, frozenset())

    def readers(mode: int) -> list[bool]:
        path.chmod(mode)
        return [each.may_read(path.stat()) for each in (member, stranger)]

    assert readers(0o640) == [True, False]
    assert readers(0o604) == [False, True]
    path.chmod(0o400)
    assert mine.may_read(path.stat()) is (seen.st_uid == mine.user)
    folder = tmp_path / "folder"
    folder.mkdir()
    folder.chmod(0o744)
    assert not stranger.may_read(folder.stat())
    assert access_of(0).user == 0


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_drops_that_the_service_cannot_read_are_named(
    repository: Repository, staging: Path
) -> None:
    # The service is `nobody`, whose home it is; somebody with umask 077 dropped this.
    os.chown(root_of(repository), NOBODY, NOBODY)
    staging.chmod(0o1777)
    run = staging / "403c9d2f-5d7a-4c0b-9a61-0f6e2d4b7a91"
    run.mkdir(mode=0o700)

    checks = found(root_of(repository))

    assert checks["drops"].result == PROBLEM
    assert str(run) in checks["drops"].what
    run.chmod(0o777)
    checks = found(root_of(repository))
    assert checks["drops"].result == OK
    assert str(run) in checks["drops of others"].what


# The command


def test_command_tells_and_exits_by_what_was_found(
    repository: Repository, staging: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    home = ["--home", str(root_of(repository))]

    assert main([*home, "doctor"]) == 0
    assert "Try: start `modeldropd`" in capsys.readouterr().out
    assert main([*home, "doctor", "-q"]) == 0
    assert capsys.readouterr().out == "service\n"

    staging.rmdir()
    assert main([*home, "doctor", "--json"]) == 3
    said = capsys.readouterr()
    printed = json.loads(said.out)
    assert differences(printed, DoctorObject) == []
    assert printed["ok"] is False
    assert "staging" in json.loads(said.err)["error"]["detail"]["problems"]


def test_command_without_a_home_says_so(tmp_path: Path) -> None:
    assert main(["--home", str(tmp_path), "doctor"]) == 10


# What is seldom so


def test_network_file_systems_are_named_and_the_lease_is_not_tried(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (at_home, at_staging):
        monkeypatch.setattr(module, "is_network", lambda _: True)

    checks = found(root_of(repository))

    assert checks["home disk"].result == WARNING
    assert checks["staging disk"].result == WARNING
    assert "lease" not in checks


def test_kernel_that_tells_nothing_of_writers_is_said(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_staging, "probe", lambda _: Writers.UNKNOWN)

    assert "quiet_time_without_lease" in found(root_of(repository))["lease"].todo


def test_kernel_that_says_nothing_of_its_watches_is_not_held_to_any(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_staging, "_LIMIT", tmp_path / "nowhere")

    assert "events" not in found(root_of(repository))


def test_clock_of_before_modeldrop_is_a_problem(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(at_home, "_FIRST_YEAR", 9999)

    assert found(root_of(repository))["clock"].todo == "set it: `timedatectl`"


def test_journal_without_an_entry_is_in_order(repository: Repository) -> None:
    for path in (repository.home.paths.head, repository.home.paths.journal):
        path.unlink()

    assert found(root_of(repository))["journal"].what == "it has no entry yet"


def test_backend_of_another_repository_is_a_problem(repository: Repository, tmp_path: Path) -> None:
    with make_home(tmp_path / "other" / ".mlops") as other:
        theirs = root_of(other) / "model-repository" / FORMAT_KEY
    (root_of(repository) / "model-repository" / FORMAT_KEY).write_bytes(theirs.read_bytes())

    checks = found(root_of(repository))

    assert checks["backend"].result == PROBLEM
    assert "and this home belongs to" in checks["backend"].what


def test_store_that_was_never_tried_is_said(repository: Repository) -> None:
    repository.home.paths.probe.unlink()

    assert "`modeldrop doctor --probe`" in found(root_of(repository))["create if absent"].todo


def test_room_that_comes_near_the_reserve_is_said(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.statvfs(root_of(repository))
    near = int(repository.home.config.service.reserve * 1.5) // real.f_frsize

    class Near:
        f_bavail, f_frsize = near, real.f_frsize

    monkeypatch.setattr(os, "statvfs", lambda _: Near)

    assert found(root_of(repository))["space: home"].todo == "make room soon"


def test_runs_that_are_parked_or_blocked_are_counted(tmp_path: Path) -> None:
    home = Home(tmp_path, most_files=1)
    run = home.drop(b"1", "a/1")
    (home.staging / run / "a" / "2").write_bytes(b"more than one file")
    home.start_ready()
    assert home.is_in(run, "parked")

    checks = found(home.root)

    assert checks["runs"].what == "1 parked"
    home.close()


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a home another user's")
def test_service_that_may_not_look_into_staging_is_a_problem(
    repository: Repository, staging: Path
) -> None:
    os.chown(root_of(repository), NOBODY, NOBODY)
    staging.chmod(0o700)

    checks = {each.name: each for each in at_staging.sharing(repository.home)}

    assert checks["sharing"].result == PROBLEM
    assert "usermod -aG GROUP" in checks["sharing"].todo


def test_user_without_a_name_is_told_by_number() -> None:
    assert at_home.user_name(4_000_000) == "4000000"
    assert access_of(4_000_000) == Access(4_000_000, frozenset())


def test_pipes_in_staging_are_no_drops_that_somebody_has_to_read(
    repository: Repository, staging: Path
) -> None:
    os.mkfifo(staging / "pipe", 0o000)

    assert found(root_of(repository))["drops"].result == OK


def test_service_of_another_user_asks_who_writes_only_with_a_capability(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, service = repository.home, Access(NOBODY, frozenset())
    monkeypatch.setattr(at_staging, "_CAP_LEASE", 0 if os.geteuid() == 0 else 63)
    with locks.hold(home.paths.service_lock(), what="the service"):
        [with_it] = at_staging._lease_for_others(home, service)
        monkeypatch.setattr(at_staging, "_CAP_LEASE", 63)
        [without] = at_staging._lease_for_others(home, service)

    assert with_it.result == (OK if os.geteuid() == 0 else WARNING)
    assert "without CAP_LEASE" in without.what
