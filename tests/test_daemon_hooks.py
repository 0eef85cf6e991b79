"""Hooks: what they are told, that none is missed, and that none holds up the service."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modeldrop.repository import Repository
from support import work
from support.mlopsnet import usual
from support.service import Home, Service
from support.waiting import comes_true

# A hook that notes what it was told, and then does not end. Its child is in its process group.
HANGING = 'cat >> "$0"; echo $$ >> "$0.pids"; sleep 600 & echo $! >> "$0.pids"; wait'


class Hooked:
    """A home whose hooks note what they are told in a file."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.home = Home(folder)
        self.told_in = folder / "told"
        self.tee = ("tee", "-a", str(self.told_in))

    def configure(self, *, timeout: float = 30.0, **hooks: tuple[str, ...]) -> None:
        self.home.configure(most_files=2)
        lines = [f"{event} = {json.dumps(command)}" for event, command in hooks.items()]
        with (self.home.root / "config.toml").open("a") as file:
            file.write("\n".join(["[hooks]", f"timeout = {timeout}", *lines, ""]))

    def told(self) -> list[dict[str, Any]]:
        if not self.told_in.exists():
            return []
        return [json.loads(line) for line in self.told_in.read_text().splitlines()]

    def abouts(self) -> list[str]:
        return [each["about"][0] for each in self.told()]

    def is_told(self, *abouts: str) -> bool:
        return comes_true(lambda: self.abouts() == list(abouts))

    def pids(self) -> list[int]:
        path = Path(f"{self.told_in}.pids")
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    def register(self, run: str, experiment: str = "churn") -> None:
        with Repository.open(self.home.root) as repository:
            repository.register(run, experiment)

    def commit(self) -> str:
        run = self.home.drop_whole(b"model")
        assert self.home.is_committed(run)
        return run


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def warnings(service: Service) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in service.log.splitlines()]
    return [line for line in lines if line["level"] == "warning"]


@pytest.fixture
def hooked(tmp_path: Path) -> Iterator[Hooked]:
    hooked = Hooked(tmp_path / "h")
    yield hooked
    hooked.home.close()


# What they are told


def test_committed_run_is_told_with_its_record_on_stdin(hooked: Hooked) -> None:
    hooked.configure(committed=hooked.tee)
    hooked.home.start_ready()

    run = hooked.commit()

    assert hooked.is_told(f"run:{run}~1")
    (told,) = hooked.told()
    with Repository.open(hooked.home.root) as repository:
        entry = next(repository.journal.newest())
    assert told == {
        "event": "committed",
        "seq": entry.seq,
        "at": entry.at,
        "home": entry.home,
        "host": entry.host,
        "user": entry.user,
        "about": [f"run:{run}~1"],
        "details": entry.details,
    }
    assert told["details"]["artifacts"][0]["artifact"] == "model.bin"


def test_version_that_another_process_registers_is_told(hooked: Hooked) -> None:
    hooked.configure(registered=hooked.tee)
    hooked.home.start_ready()

    run = hooked.commit()
    hooked.register(run)

    assert hooked.is_told("churn/1")
    assert hooked.told()[0]["event"] == "registered"
    assert hooked.told()[0]["details"]["version"] == 1


def test_deployment_and_rollback_by_another_process_are_told(
    hooked: Hooked, tmp_path: Path
) -> None:
    hooked.configure(deployed=hooked.tee)
    hooked.home.start_ready()
    run = hooked.commit()
    hooked.register(run)
    with Repository.open(hooked.home.root) as repository:
        repository.register(run, "churn", again=True)
        repository.add_target("production", tmp_path / "serving")
        repository.deploy("churn/1", "production")
        repository.deploy("churn/2", "production")
        repository.rollback("churn", "production")

    assert hooked.is_told(*(f"churn@production~{number}" for number in (1, 2, 3)))
    told = hooked.told()
    assert [each["event"] for each in told] == ["deployed"] * 3
    assert [each["details"]["version"] for each in told] == [1, 2, 1]
    assert [each["details"]["rolled_back"] for each in told] == [False, False, True]


def test_what_is_imported_is_passed_over(hooked: Hooked, tmp_path: Path) -> None:
    made, _ = usual(tmp_path / "net")
    hooked.configure(registered=hooked.tee, committed=hooked.tee)
    hooked.home.start_ready()
    assert work.import_mlopsnet(hooked.home.root, made.database, made.folder)

    run = hooked.commit()
    hooked.register(run)

    assert hooked.is_told(f"run:{run}~1", "churn/4")


def test_parked_run_is_told_once(hooked: Hooked) -> None:
    hooked.configure(parked=hooked.tee)
    service = hooked.home.start_ready()

    run = hooked.home.drop(b"1", "a/1")
    for name in ("2", "3"):
        (hooked.home.staging / run / "a" / name).write_bytes(b"more than two files")

    assert hooked.is_told(f"run:{run}")
    (told,) = hooked.told()
    assert (told["event"], told["seq"]) == ("parked", None)
    assert told["details"]["run"] == run
    assert "files" in told["details"]["reason"]
    # It stays parked, and so says nothing new after a restart.
    assert service.stop() == 0
    hooked.configure(parked=hooked.tee, committed=hooked.tee)
    hooked.home.start_ready()
    other = hooked.commit()
    assert hooked.is_told(f"run:{run}", f"run:{other}~1")


def test_hook_knows_the_home_and_not_the_service_manager(hooked: Hooked) -> None:
    seen = hooked.told_in.with_name("seen")
    code = f'pwd > "{seen}.part"; env >> "{seen}.part"; mv "{seen}.part" "{seen}"'
    hooked.configure(committed=("sh", "-c", code))
    hooked.home.start_ready(environ={"WATCHDOG_USEC": "60000000"})

    hooked.commit()

    assert comes_true(seen.exists)
    cwd, *environ = seen.read_text().splitlines()
    assert cwd == str(hooked.home.root)
    assert f"MODELDROP_HOME={hooked.home.root}" in environ
    assert "MODELDROP_EVENT=committed" in environ
    assert not [each for each in environ if each.startswith(("NOTIFY_SOCKET", "WATCHDOG_"))]


def test_credentials_of_the_service_manager_stay_the_services(
    hooked: Hooked, tmp_path: Path
) -> None:
    seen = hooked.told_in.with_name("seen")
    hooked.configure(committed=("sh", "-c", f'env > "{seen}.part"; mv "{seen}.part" "{seen}"'))
    (tmp_path / "environment").write_text("AWS_SECRET_ACCESS_KEY=canary\n")
    service = hooked.home.start_ready(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})

    hooked.commit()

    assert comes_true(seen.exists)
    assert "AWS_SECRET_ACCESS_KEY" in service.log
    assert "canary" not in seen.read_text()


def test_hook_gets_no_credential_of_the_store_and_the_name_of_its_profile(hooked: Hooked) -> None:
    seen = hooked.told_in.with_name("seen")
    hooked.configure(committed=("sh", "-c", f'env > "{seen}.part"; mv "{seen}.part" "{seen}"'))
    secrets = ("AWS_ACCESS_KEY_ID", "AWS_SESSION_TOKEN", "AZURE_STORAGE_CONNECTION_STRING")
    environ = {**dict.fromkeys(secrets, "canary"), "AWS_PROFILE": "models", "A_TOKEN": "theirs"}
    hooked.home.start_ready(environ=environ)

    hooked.commit()

    assert comes_true(seen.exists)
    told = seen.read_text().splitlines()
    assert not any("canary" in line for line in told)
    assert {"AWS_PROFILE=models", "A_TOKEN=theirs"} <= set(told)


def test_words_reach_the_command_as_they_are(hooked: Hooked) -> None:
    odd = hooked.told_in.with_name("$(touch odd) ; `id` *")
    hooked.configure(committed=("tee", str(odd)))
    hooked.home.start_ready()

    hooked.commit()

    assert comes_true(odd.exists)


# None is missed, and none is told of the past


def test_first_start_with_hooks_begins_at_the_journals_end(hooked: Hooked) -> None:
    service = hooked.home.start_ready()
    hooked.commit()
    assert service.stop() == 0

    hooked.configure(committed=hooked.tee)
    hooked.home.start_ready()
    run = hooked.commit()

    assert hooked.is_told(f"run:{run}~1")


def test_what_happens_while_no_service_runs_is_told_after_the_start_in_order(
    hooked: Hooked,
) -> None:
    hooked.configure(committed=hooked.tee, registered=hooked.tee)
    service = hooked.home.start_ready()
    run = hooked.commit()
    assert hooked.is_told(f"run:{run}~1")
    assert service.stop() == 0

    hooked.register(run, "one")
    hooked.register(run, "two")
    hooked.home.start_ready()
    other = hooked.commit()

    assert hooked.is_told(f"run:{run}~1", "one/1", "two/1", f"run:{other}~1")
    numbers = [each["seq"] for each in hooked.told()]
    assert numbers == sorted(set(numbers))


def test_hooks_that_come_by_sighup_hold_at_once(hooked: Hooked) -> None:
    service = hooked.home.start_ready()
    hooked.commit()

    hooked.configure(committed=hooked.tee)
    service.signal(signal.SIGHUP)
    assert service.says("READY=1", times=2)
    run = hooked.commit()

    assert hooked.is_told(f"run:{run}~1")
    assert "hold from the next start only" not in service.log


def test_hooks_that_were_off_for_a_while_are_not_told_of_it(hooked: Hooked) -> None:
    hooked.configure(committed=hooked.tee)
    service = hooked.home.start_ready()
    first = hooked.commit()
    assert hooked.is_told(f"run:{first}~1")
    assert service.stop() == 0
    hooked.configure()
    service = hooked.home.start_ready()
    hooked.commit()
    assert service.stop() == 0

    hooked.configure(committed=hooked.tee)
    hooked.home.start_ready()
    last = hooked.commit()

    assert hooked.is_told(f"run:{first}~1", f"run:{last}~1")


def test_copied_home_tells_of_its_own_only(hooked: Hooked, tmp_path: Path) -> None:
    hooked.configure(committed=hooked.tee)
    service = hooked.home.start_ready()
    first = hooked.commit()
    assert hooked.is_told(f"run:{first}~1")
    assert service.stop() == 0
    copy = Hooked(tmp_path / "copy")
    shutil.rmtree(copy.home.root)
    shutil.copytree(hooked.home.root, copy.home.root)
    copy.configure(committed=copy.tee)

    try:
        copy.home.start_ready()
        run = copy.commit()
        assert copy.is_told(f"run:{run}~1")
    finally:
        copy.home.close()


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_hook_that_the_services_end_cuts_short_is_run_again(
    hooked: Hooked, end: signal.Signals
) -> None:
    hooked.configure(committed=("sh", "-c", HANGING, str(hooked.told_in)))
    service = hooked.home.start_ready()
    run = hooked.commit()
    assert hooked.is_told(f"run:{run}~1")
    assert comes_true(lambda: len(hooked.pids()) == 2)

    service.signal(end)
    service.wait()

    if end == signal.SIGTERM:
        assert all(map(is_gone, hooked.pids()))
    for pid in hooked.pids():
        if not is_gone(pid):
            os.kill(pid, signal.SIGKILL)
    hooked.configure(committed=hooked.tee)
    hooked.home.start_ready()
    assert hooked.is_told(f"run:{run}~1", f"run:{run}~1")
    assert hooked.told()[0] == hooked.told()[1]


# None holds up the service


def test_hook_that_hangs_is_ended_with_its_group_and_holds_up_no_run(hooked: Hooked) -> None:
    hooked.configure(committed=("sh", "-c", HANGING, str(hooked.told_in)), timeout=2.0)
    service = hooked.home.start_ready()

    first = hooked.commit()
    second = hooked.commit()

    assert hooked.is_told(f"run:{first}~1", f"run:{second}~1")
    assert service.logs(f"run:{second}~1 was ended after 2 s, and is not run again")
    pids = hooked.pids()
    assert len(pids) == 4
    assert comes_true(lambda: all(map(is_gone, pids)))
    line = warnings(service)[0]
    assert (line["event"], line["seq"]) == ("committed", hooked.told()[0]["seq"])
    assert line["seconds"] >= 2.0


def test_hook_that_ignores_its_end_is_killed(hooked: Hooked) -> None:
    code = f'trap "" TERM; {HANGING}'
    hooked.configure(committed=("sh", "-c", code, str(hooked.told_in)), timeout=1.0)
    service = hooked.home.start_ready()

    hooked.commit()

    assert service.logs("was ended after 1 s")
    assert len(hooked.pids()) == 2
    assert comes_true(lambda: all(map(is_gone, hooked.pids())))


def test_hook_that_fails_is_told_with_its_last_words_and_not_run_again(hooked: Hooked) -> None:
    code = 'cat >> "$0"; yes noise | head -c 200000 >&2; printf "\\033[2Jlast words" >&2; exit 3'
    hooked.configure(committed=("sh", "-c", code, str(hooked.told_in)))
    service = hooked.home.start_ready()
    first = hooked.commit()
    assert service.logs("failed with exit code 3")
    assert service.stop() == 0

    service = hooked.home.start_ready()
    second = hooked.commit()

    assert hooked.is_told(f"run:{first}~1", f"run:{second}~1")
    assert service.logs("failed with exit code 3")
    (line,) = warnings(service)
    assert line["exit"] == 3
    assert r"\x1b[2Jlast words" in line["message"]
    assert len(line["message"]) < 6000


def test_hook_that_floods_its_output_ends(hooked: Hooked) -> None:
    words = ("sh", "-c", 'head -c 50000000 /dev/zero; cat >> "$0"', str(hooked.told_in))
    hooked.configure(committed=words)
    service = hooked.home.start_ready()

    run = hooked.commit()

    assert hooked.is_told(f"run:{run}~1")
    assert service.stop() == 0
    assert len(service.log) < 100_000


def test_what_a_hook_leaves_in_the_background_is_not_waited_for(hooked: Hooked) -> None:
    code = 'sleep 600 & echo $! >> "$0.pids"; cat >> "$0"'
    hooked.configure(committed=("sh", "-c", code, str(hooked.told_in)))
    service = hooked.home.start_ready()

    first, second = hooked.commit(), hooked.commit()

    try:
        assert hooked.is_told(f"run:{first}~1", f"run:{second}~1")
        assert not warnings(service)
    finally:
        for pid in hooked.pids():
            os.kill(pid, signal.SIGKILL)


def test_program_that_isnt_there_is_told(hooked: Hooked) -> None:
    hooked.configure(committed=("no-such-program",))
    service = hooked.home.start_ready()

    hooked.commit()

    assert service.logs("could not be started: [Errno 2]")


def test_damaged_place_is_told_and_begun_anew(hooked: Hooked) -> None:
    hooked.configure(committed=hooked.tee)
    (hooked.home.root / "service/hooks.json").write_text("{}")
    service = hooked.home.start_ready()

    run = hooked.commit()

    assert hooked.is_told(f"run:{run}~1")
    assert "hooks begin with what happens from now on" in service.log


def test_stop_waits_for_a_hook_that_is_nearly_done(hooked: Hooked) -> None:
    gate = hooked.told_in.with_name("gate")
    code = f'cat >> "$0"; touch "$0.at"; while [ ! -e "{gate}" ]; do sleep 0.02; done; exit 0'
    hooked.configure(committed=("sh", "-c", code, str(hooked.told_in)))
    service = hooked.home.start_ready()
    run = hooked.commit()
    assert comes_true(Path(f"{hooked.told_in}.at").exists)

    service.signal(signal.SIGTERM)
    assert service.says("STOPPING=1")
    gate.touch()
    assert service.wait() == 0

    hooked.configure(committed=hooked.tee)
    hooked.home.start_ready()
    other = hooked.commit()
    assert hooked.is_told(f"run:{run}~1", f"run:{other}~1")


def test_hook_that_ends_by_a_signal_is_told_with_its_number(hooked: Hooked) -> None:
    hooked.configure(committed=("sh", "-c", "kill -KILL $$"))
    service = hooked.home.start_ready()

    hooked.commit()

    assert service.logs("was ended by signal 9")
