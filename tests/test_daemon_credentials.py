"""Credentials that the service manager hands over: into the environment, and nowhere else."""

from pathlib import Path

import pytest

from modeldrop.errors import ConfigError
from modeldrop_daemon import credentials
from support.service import Home

SECRET = "canary-7f3a"


def given(folder: Path, text: str) -> dict[str, str]:
    (folder / "environment").write_text(text)
    return {"CREDENTIALS_DIRECTORY": str(folder)}


def test_lines_go_into_the_environment_as_they_stand(tmp_path: Path) -> None:
    environ = given(
        tmp_path,
        "# of the store\n\nAWS_ACCESS_KEY_ID=key\r\n"
        'AWS_SECRET_ACCESS_KEY="a$b#c"\nAZURE_STORAGE_CONNECTION_STRING=A=b;C=d==\n',
    )

    assert credentials.take(environ) == (
        "AWS_ACCESS_KEY_ID",
        "AWS_SECRET_ACCESS_KEY",
        "AZURE_STORAGE_CONNECTION_STRING",
    )
    assert environ["AWS_ACCESS_KEY_ID"] == "key"
    assert environ["AWS_SECRET_ACCESS_KEY"] == '"a$b#c"'
    assert environ["AZURE_STORAGE_CONNECTION_STRING"] == "A=b;C=d=="


def test_what_the_unit_sets_where_there_is_no_file_sets_nothing(tmp_path: Path) -> None:
    assert credentials.take(given(tmp_path, "#")) == ()


def test_without_a_manager_or_a_file_nothing_is_taken(tmp_path: Path) -> None:
    assert credentials.take({}) == ()
    assert credentials.take({"CREDENTIALS_DIRECTORY": str(tmp_path)}) == ()


@pytest.mark.parametrize(
    "text",
    [
        f"{SECRET}\n",
        f"export AWS_SECRET_ACCESS_KEY={SECRET}\n",
        f"LD_PRELOAD={SECRET}\n",
        f"MODELDROP_HOME={SECRET}\n",
        f"AWS_SECRET_ACCESS_KEY={SECRET}\0\n",
    ],
    ids=["no-name", "export", "loader", "ours", "nul"],
)
def test_what_is_no_credential_is_refused_and_no_value_is_shown(tmp_path: Path, text: str) -> None:
    environ = given(tmp_path, text)

    with pytest.raises(ConfigError) as caught:
        credentials.take(environ)

    assert SECRET not in f"{caught.value.message} {caught.value.hint} {caught.value.__context__!r}"
    assert list(environ) == ["CREDENTIALS_DIRECTORY"]


def test_service_logs_in_with_them_and_shows_them_nowhere(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path, s3_url)
    folder = tmp_path / "credentials"
    folder.mkdir()
    lines = f"AWS_ACCESS_KEY_ID={SECRET}-id\nAWS_SECRET_ACCESS_KEY={SECRET}\n"
    environ = given(folder, lines)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    service = home.start_ready(environ=environ)

    run = home.drop_whole(b"model")

    assert home.is_committed(run)
    block = Path(f"/proc/{service.process.pid}/environ").read_bytes()
    assert service.stop() == 0
    home.close()
    assert SECRET not in block.decode() + service.log + home.status.read_text()
    assert "AWS_SECRET_ACCESS_KEY" in service.log
