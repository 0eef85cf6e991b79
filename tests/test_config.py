"""Settings: read into typed classes, and what isn't right is refused with what would be."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop import config
from modeldrop.errors import ConfigError, ModeldropError
from modeldrop.settings import SECTIONS, BackendSettings, Config, ServiceSettings, settings_of


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "config.toml"


def loaded(path: Path, text: str) -> Config:
    """Load settings from a text."""
    path.write_text(text, "utf-8")
    return config.load(path)


def test_without_a_file_and_in_an_empty_one_the_defaults_hold(path: Path) -> None:
    assert config.load(path) == Config()
    assert loaded(path, "") == Config()


def test_settings_are_read_into_their_types(path: Path) -> None:
    found = loaded(
        path,
        """
        [backend]
        url = "s3://models/team"
        options = { endpoint_url = "http://127.0.0.1:9000", anon = true }
        single_writer = true
        [service]
        quiet_time = 7
        parallel = 2
        complete = "marker"
        """,
    )

    assert found.backend == BackendSettings(
        "s3://models/team", {"endpoint_url": "http://127.0.0.1:9000", "anon": True}, True
    )
    assert found.service == ServiceSettings(quiet_time=7.0, parallel=2, complete="marker")
    assert type(found.service.quiet_time) is float


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("[service]\nquiet_tme = 1", "unknown [service] setting 'quiet_tme'", "'quiet_time'"),
        ("[service]\nparalel = 1", "unknown [service] setting 'paralel'", "'parallel'"),
        ("[backend]\nURL = ''", "unknown [backend] setting 'URL'", "known are url, options"),
        ("[servise]\n", "unknown section 'servise'", "'service'"),
        ("zzz = 1", "unknown section 'zzz'", "known are backend, staging, service"),
        ("backend = 's3://b'", "'backend' has to be a section", "[backend]"),
        ('[service]\n"a\\u001b" = 1', r"setting 'a\\x1b'", "known are"),
    ],
)
def test_unknown_key_is_refused_and_the_nearest_is_named(
    path: Path, text: str, says: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(path, text)

    assert says in caught.value.message
    assert str(path) in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[service]\nquiet_time = '5'", "a number of seconds"),
        ("[service]\nquiet_time = true", "a number of seconds"),
        ("[service]\nparallel = 2.0", "a whole number"),
        ("[service]\ncomplete = 'never'", '"quiet" or "marker"'),
        ("[service]\nwatcher = 1", '"auto" or "none"'),
        ("[backend]\nsingle_writer = 1", "true or false"),
        ("[backend]\nurl = 3", "a text"),
        ("[backend]\noptions = 'x'", "a table"),
        ("[service]\nquiet_time = 0", "more than 0"),
        ("[service]\nquiet_time = -1", "more than 0"),
        ("[service]\nparallel = 0", "more than 0"),
        ("[service]\nretry_most = inf", "finite"),
        (f"[service]\nquiet_time = 1{'0' * 400}", "finite"),
        ("[service]\nstop_time = nan", "more than 0"),
    ],
)
def test_value_that_cant_be_right_is_refused_with_what_would_be(
    path: Path, text: str, expected: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(path, text)

    key = text.partition("\n")[2].partition(" ")[0]
    assert key in caught.value.message
    assert expected in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "data", [b"[service", b"a = 1\na = 2", b"a = 1" + b"0" * 5000, b"\xff = 1", b"\x00"]
)
def test_what_is_no_toml_is_refused_by_the_files_name(path: Path, data: bytes) -> None:
    path.write_bytes(data)

    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert str(path) in caught.value.message


def test_file_that_is_a_folder_is_refused(path: Path) -> None:
    path.mkdir()

    with pytest.raises(ConfigError, match="can't be read"):
        config.load(path)


def test_file_that_cant_be_read_just_now_is_no_mistake_of_the_users(path: Path) -> None:
    # As good as an error of the disk: no file is reached.
    path.symlink_to(path)

    with pytest.raises(ModeldropError, match="can't be read: Too many levels") as caught:
        config.load(path)
    assert caught.value.exit_code == ModeldropError.exit_code


@pytest.mark.scenario(53)
def test_file_that_others_can_write_is_refused_with_the_command_that_mends_it(path: Path) -> None:
    path.write_text("")
    path.chmod(0o646)

    with pytest.raises(ConfigError, match="every user of this machine") as caught:
        config.load(path)
    assert caught.value.hint == f"run `chmod o-w {path}`"

    path.chmod(0o644)
    assert config.load(path) == Config()


@given(
    url=st.text(st.characters(codec="utf-8")),
    quiet=st.floats(1e-6, 1e9),
    parallel=st.integers(1, 10**6),
    single=st.booleans(),
    options=st.dictionaries(st.text(min_size=1), st.booleans() | st.integers() | st.text()),
)
def test_what_is_saved_is_loaded_again(
    tmp_path_factory: pytest.TempPathFactory,
    url: str,
    quiet: float,
    parallel: int,
    options: dict[str, object],
    *,
    single: bool,
) -> None:
    path = tmp_path_factory.getbasetemp() / "saved.toml"
    settings = Config(
        backend=BackendSettings(url, options, single),
        service=ServiceSettings(quiet_time=quiet, parallel=parallel),
    )

    config.save(path, settings)

    assert config.load(path) == settings


def test_saved_file_is_its_owners_alone_and_holds_only_what_was_set(path: Path) -> None:
    config.save(path, Config(backend=BackendSettings("s3://models")))

    assert os.stat(path).st_mode & 0o777 == 0o600
    assert "quiet_time" not in path.read_text()
    assert 'url = "s3://models"' in path.read_text()


def test_every_setting_says_what_it_is_for() -> None:
    for section in SECTIONS.values():
        said = settings_of(section)
        assert list(said) == list(section.__struct_fields__)
        assert [name for name, each in said.items() if len(each.doc) <= 10] == []


@pytest.mark.parametrize("section", SECTIONS)
def test_every_default_is_itself_a_valid_setting(path: Path, section: str) -> None:
    defaults = msgspec.structs.asdict(getattr(Config(), section))

    assert config.parse({section: defaults}, str(path)) == Config()


@pytest.mark.parametrize(
    ("verdict", "why"),
    [
        pytest.param('pickel = "park"', "pickle", id="kind"),
        pytest.param('pickle = "perhaps"', "has to be", id="verdict"),
    ],
)
def test_kinds_of_files_and_what_is_said_of_them_are_checked(
    path: Path, verdict: str, why: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        loaded(path, f"[formats.kinds]\n{verdict}\n")

    assert why in f"{refused.value.message} {refused.value.hint}"
