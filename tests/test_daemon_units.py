"""The systemd units: as they are shipped, and filled in for a home."""

import configparser
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from modeldrop.errors import ConfigError
from modeldrop.settings import ServiceSettings
from modeldrop_daemon import units
from modeldrop_daemon.main import main
from support.service import Home

KINDS = ["user", "system"]


def settings_of(unit: str) -> configparser.ConfigParser:
    # Not strict: some settings are lists, each line of which adds to it.
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign] # as its manual says
    parser.read_string(unit)
    return parser


def verify(kind: str, path: Path) -> str:
    """Return what systemd has to say about a unit: nothing, if it is good."""
    done = subprocess.run(
        ["systemd-analyze", f"--{kind}", "verify", "--recursive-errors=no", str(path)],
        capture_output=True,
        text=True,
        check=False,
        # A person's manager asks for a folder that a build machine may not have.
        env={**os.environ, "XDG_RUNTIME_DIR": str(path.parent)},
    )
    return done.stdout + done.stderr


def exposure(path: Path) -> float:
    """Return how exposed systemd finds a unit: 0 is not at all, 10 is unsafe."""
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", str(path)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.search(r"Overall exposure level for .*: ([0-9.]+)", done.stdout)
    assert found, done.stdout
    return float(found[1])


needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@pytest.mark.parametrize("kind", KINDS)
def test_shipped_unit_is_a_service_that_speaks_for_itself(kind: str) -> None:
    service = settings_of(units.template(kind))["Service"]

    assert service["Type"] == "notify"
    assert service["ExecReload"] == "/bin/kill -HUP $MAINPID"
    assert service["Restart"] == "on-failure"
    assert service["RestartPreventExitStatus"] == "2 10 20"
    # A hook that the kernel ends for its memory doesn't end the service.
    assert service["OOMPolicy"] == "continue"
    assert "WatchdogSec" in service
    assert float(service["TimeoutStopSec"].removesuffix("s")) > ServiceSettings().stop_time


@needs_systemd
def test_shipped_system_unit_is_hardly_exposed() -> None:
    path = Path(__file__).parents[1] / "systemd" / "modeldropd.service"

    assert exposure(path) <= 1.5


@needs_systemd
def test_what_is_printed_for_a_home_is_no_more_exposed(tmp_path: Path) -> None:
    home = Home(tmp_path)
    unit = tmp_path / "modeldropd.service"
    unit.write_text(units.print_unit("system", home.root))
    # The tests may run as root, as whom the home then is.
    unit.write_text(re.sub("(?m)^User=.*", "User=modeldrop", unit.read_text()))

    assert exposure(unit) <= 1.5


@needs_systemd
@pytest.mark.parametrize("kind", KINDS)
def test_printed_unit_is_understood_by_systemd(kind: str, tmp_path: Path) -> None:
    home = Home(tmp_path)
    # Whatever a path may hold that means something to systemd.
    odd = tmp_path / 'o d%d "$HOME" \\n;\'#'
    shutil.move(home.root, odd)
    unit = tmp_path / "modeldropd.service"

    unit.write_text(units.print_unit(kind, odd))

    assert verify(kind, unit) == ""


def test_what_means_something_to_systemd_is_escaped(tmp_path: Path) -> None:
    home = Home(tmp_path)
    odd = tmp_path / 'a%b$c "d"'
    shutil.move(home.root, odd)

    unit = settings_of(units.print_unit("user", odd))

    # In a command `$` begins a variable; `%` begins a specifier everywhere.
    assert unit["Service"]["ExecStart"].endswith(rf'--home "{tmp_path}/a%%b$$c \"d\""')
    assert unit["Unit"]["RequiresMountsFor"] == rf'"{tmp_path}/a%%b$c \"d\""'


@needs_systemd
def test_systemd_would_have_seen_a_mistake(tmp_path: Path) -> None:
    unit = tmp_path / "modeldropd.service"
    unit.write_text(units.print_unit("user") + "\n[Service]\nTypo=yes\n")

    assert "Typo" in verify("user", unit)


@pytest.mark.parametrize("kind", KINDS)
def test_printed_unit_names_this_program_and_this_home(kind: str, tmp_path: Path) -> None:
    home = Home(tmp_path, stop_time=100.0)

    unit = settings_of(units.print_unit(kind, home.root))

    program, *rest = unit["Service"]["ExecStart"].split(" ")
    assert Path(program).exists()
    assert Path(program).parent == Path(sys.executable).parent
    assert rest[-2:] == ["--home", str(home.root)]
    assert unit["Unit"]["RequiresMountsFor"] == str(home.root)
    assert unit["Service"]["TimeoutStopSec"] == "130s"


def test_system_unit_runs_as_whoever_the_home_belongs_to(tmp_path: Path) -> None:
    home = Home(tmp_path)

    service = settings_of(units.print_unit("system", home.root))["Service"]

    assert service["User"] == home.root.owner()
    assert "StateDirectory" not in service


def test_staging_and_backend_elsewhere_have_to_be_mounted_too(tmp_path: Path) -> None:
    home = Home(tmp_path)
    (home.root / "config.toml").write_text(
        f'[staging]\npath = "{tmp_path}/drop here"\n[backend]\nurl = "{tmp_path}/store"\n'
    )

    unit = settings_of(units.print_unit("system", home.root))["Unit"]

    assert unit["RequiresMountsFor"] == f'{home.root} "{tmp_path}/drop here" {tmp_path}/store'


def test_only_home_staging_and_a_backend_in_a_folder_can_be_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Where the folders of tests are is hidden from the service, as other people's are.
    monkeypatch.setattr(units, "_HIDDEN", (tmp_path / "people",))
    home = Home(tmp_path)
    (home.root / "config.toml").write_text(
        f'[staging]\npath = "{tmp_path}/people/drop: here"\n[backend]\nurl = "{tmp_path}/store"\n'
    )

    service = settings_of(units.print_unit("system", home.root))["Service"]

    assert service["ProtectSystem"] == "strict"
    assert service["ReadWritePaths"] == f"{home.root} {tmp_path}/store"
    assert service["BindPaths"] == f'"{tmp_path}/people/drop: here"'
    assert "BindReadOnlyPaths" not in service


def test_a_program_that_would_be_hidden_is_shown_to_the_service(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(units, "_HIDDEN", (Path(sys.prefix).parent,))

    service = settings_of(units.print_unit("system"))["Service"]

    assert sys.prefix in service["BindReadOnlyPaths"].split(" ")


@pytest.mark.parametrize(("kind", "home"), [("user", "%h"), ("system", "/var/lib/modeldrop")])
def test_without_a_home_it_is_for_the_usual_one(kind: str, home: str) -> None:
    service = settings_of(units.print_unit(kind))["Service"]

    assert service["ExecStart"].endswith(f" --home {home}/.mlops")


def test_printed_unit_starts_the_service(tmp_path: Path) -> None:
    home = Home(tmp_path)
    command = settings_of(units.print_unit("user", home.root))["Service"]["ExecStart"].split(" ")

    said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True)

    assert said.stdout.startswith("modeldropd ")


def test_path_that_no_unit_can_hold_is_refused(tmp_path: Path) -> None:
    home = Home(tmp_path)
    odd = tmp_path / "line\nfeed"
    shutil.move(home.root, odd)

    with pytest.raises(ConfigError, match=r"line\\nfeed"):
        units.print_unit("user", odd)


def test_program_prints_a_unit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    home = Home(tmp_path)

    assert main(["--home", str(home.root), "--print-unit", "user"]) == 0

    assert capsys.readouterr().out == units.print_unit("user", home.root)


def test_home_that_is_none_is_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--home", str(tmp_path), "--print-unit", "user"]) == 10

    assert "is no home" in capsys.readouterr().err


def test_a_tilde_in_home_is_the_users_folder(capsys: pytest.CaptureFixture[str]) -> None:
    # As from a unit or a cron line, where no shell expands it.
    home = Home(Path.home())

    assert main(["--home", f"~/{home.root.relative_to(Path.home())}", "--print-unit", "user"]) == 0

    assert str(home.root) in capsys.readouterr().out


@pytest.mark.slow
def test_wheel_has_the_units(tmp_path: Path) -> None:
    pytest.importorskip("hatchling", reason="hatchling, the build backend, is not installed")
    root = Path(__file__).parents[1]
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)],
        cwd=root,
        check=True,
        capture_output=True,
    )
    (wheel,) = tmp_path.glob("*.whl")
    target = tmp_path / "installed"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)

    # Not measured: the report would look for the source of what is unpacked here.
    env = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE_")}
    said = subprocess.run(
        [sys.executable, "-m", "modeldrop_daemon", "--print-unit", "user"],
        env={**env, "PYTHONPATH": str(target)},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )

    assert "Type=notify" in said.stdout


def test_unit_of_a_home_where_system_services_keep_theirs_has_its_folder_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(units, "_STATE", tmp_path)
    made = Home(tmp_path)
    made.close()

    assert "StateDirectory=modeldrop" in units.print_unit("system", made.root)
    monkeypatch.undo()
    assert "StateDirectory=modeldrop" not in units.print_unit("system", made.root)
