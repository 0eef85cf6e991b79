"""Canary secrets, everywhere that secrets come from; every failure, at DEBUG; and not one is seen.

The programs run as they do for people who look for an error: with all that they say, with Python's
warnings, and with the loggers of the stores' clients turned up.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import pytest

from modeldrop_cli.main import main
from support import program
from support.canaries import Canary, Known, Watch
from support.program import Ran
from support.proxy import CUT_ANSWER, FAIL, Proxy, Seen
from support.servers import AzuriteServer, MotoServer, TlsMotoServer
from support.service import Home
from support.waiting import comes_true

pytestmark = pytest.mark.scenario(51)

NOBODY: Final = "http://127.0.0.1:9"
# As loud as anybody can make them.
LOUD: Final = {"S3FS_LOGGING_LEVEL": "DEBUG", "MODELDROP_DEBUG": "1"}
# With it aiohttp is also strict, and takes no listing of moto's.
LOUDER: Final = {"PYTHONASYNCIODEBUG": "1"}


class Echoing(Proxy):
    """Refuses all, and repeats what it was sent, as some servers do to be helpful."""

    def pass_on(
        self, seen: Seen, headers: dict[str, str], body: bytes
    ) -> tuple[int, list[tuple[str, str]], bytes]:
        del body
        said = f"{seen.path} {headers}".replace("&", "&amp;").replace("<", "&lt;")
        text = f"<Error><Code>AccessDenied</Code><Message>{said}</Message></Error>"
        kind = [("Content-Type", "application/xml"), ("x-ms-error-code", "AuthenticationFailed")]
        return 403, kind, text.encode()


@dataclass
class Planted:
    """Where secrets were put, and what a program is told by its environment."""

    watch: Watch
    env: dict[str, str]
    # Files that hold them by rights.
    files: list[Path] = field(default_factory=list)

    def run(self, *arguments: str) -> Ran:
        """Run the program at its loudest; what it says is looked at."""
        ran = program.as_process(
            *("-vv", "--debug", *arguments), env={**LOUD, **self.env}, options=("-W", "default")
        )
        self.watch.check("stdout", ran.out)
        self.watch.check("stderr", ran.err)
        return ran


def s3_planted(place: str, folder: Path, endpoint: str) -> Planted:
    """Put the secrets of an S3 client into the environment or into a profile."""
    secret, token = Canary("secret"), Canary("token")
    names = {"aws_secret_access_key": str(secret), "aws_session_token": str(token)}
    env = {"AWS_ENDPOINT_URL": endpoint, "AWS_DEFAULT_REGION": "us-east-1"}
    watch = Watch([secret, token])
    if place == "environment":
        env |= {name.upper(): value for name, value in names.items()}
        return Planted(watch, {**env, "AWS_ACCESS_KEY_ID": "key-of-a-test"})
    path = folder / "credentials"
    lines = [f"{name} = {value}" for name, value in names.items()]
    path.write_text("\n".join(["[models]", "aws_access_key_id = key-of-a-test", *lines, ""]))
    path.chmod(0o600)
    env |= {"AWS_SHARED_CREDENTIALS_FILE": str(path), "AWS_PROFILE": "models"}
    return Planted(watch, env, [path])


def azure_planted(place: str, endpoint: str) -> Planted:
    """Put the secrets of an Azure client into the environment, in one of its forms."""
    key = Canary("key")
    account = f"AccountName=devstoreaccount1;BlobEndpoint={endpoint}/devstoreaccount1;"
    if place == "connection string":
        env = {"AZURE_STORAGE_CONNECTION_STRING": f"{account}AccountKey={key};"}
    elif place == "signature in a connection string":
        signature = f"sv=2021-08-06&sp=rw&sig={quote(str(key), safe='')}"
        env = {"AZURE_STORAGE_CONNECTION_STRING": f"{account}SharedAccessSignature={signature};"}
    else:
        env = {"AZURE_STORAGE_CONNECTION_STRING": f"AccountKey={key};no connection string"}
    return Planted(Watch([key]), env)


# --- what works ----------------------------------------------------------------------------------


def objects_of(moto: MotoServer, bucket: str) -> dict[str, bytes]:
    """Return everything in a bucket; moto asks nobody who they are."""

    def get(path: str) -> bytes:
        connection = http.client.HTTPConnection("127.0.0.1", moto.port, timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", path)
            return connection.getresponse().read()

    keys = re.findall("<Key>([^<]*)</Key>", get(f"/{bucket}?list-type=2").decode())
    return {key: get(f"/{bucket}/{quote(key)}") for key in keys}


@pytest.mark.slow
@pytest.mark.parametrize("place", ["environment", "profile"])
def test_where_all_works_no_secret_is_in_any_place(
    place: str, moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    planted = s3_planted(place, tmp_path, moto.endpoint)
    watch = planted.watch
    for name, value in planted.env.items():
        monkeypatch.setenv(name, value)
    url = moto.make_bucket()
    seen = tmp_path / "seen-by-hooks"
    home = Home(tmp_path / "h", url, metrics="127.0.0.1:0")
    with contextlib.closing(home):
        told = f"{seen}.told"
        hook = f'(cat; env; tr "\\0" " " < /proc/$$/environ) >> "{seen}"; echo >> "{told}"'
        with (home.root / "config.toml").open("a") as file:
            words = json.dumps(["sh", "-c", hook])
            file.write(f"[hooks]\ncommitted = {words}\nregistered = {words}\n")
        service = home.start_ready(environ=LOUD)
        run = home.drop_whole(os.urandom(2**20))
        assert home.is_committed(run)
        watch.check_processes()
        call = ("--home", str(home.root))
        ran = planted.run(*call, "register", run, "-e", "churn")
        assert ran.code == 0, ran.err
        assert comes_true(Path(told).exists)
        for command in ("status --json", "doctor", "log --json", "verify", "show churn --json"):
            planted.run(*call, *command.split())
        at = re.search(r"metrics are at http://(127\.0\.0\.1:\d+)", service.log)
        assert at, service.log
        connection = http.client.HTTPConnection(at[1], timeout=10)
        with contextlib.closing(connection):
            connection.request("GET", "/metrics")
            watch.check("metrics", connection.getresponse().read())
        service.signal(signal.SIGHUP)
        assert service.logs("the settings were read again")
        assert service.stop() == 0
    objects = objects_of(moto, url.removeprefix("s3://"))
    assert any(key.endswith("/versions/00000001.json") for key in objects)
    watch.check_objects(objects)
    watch.check_folder(tmp_path, but=planted.files)


def test_printed_units_name_no_secret(
    tmp_path: Path, s3_url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from modeldrop_daemon.main import main as daemon  # noqa: PLC0415 - two programs have a `main`

    secret = Canary("secret")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", str(secret))
    home = Home(tmp_path, s3_url)
    for kind in ("user", "system"):
        assert daemon(["--home", str(home.root), "--print-unit", kind]) == 0
    Watch([secret]).check("units", capsys.readouterr().out)


# --- what fails ----------------------------------------------------------------------------------


def failing_server(what: str, stack: contextlib.ExitStack, port: int) -> str:
    """Return the address of a server that fails as it is asked to."""
    if what == "nobody there":
        return NOBODY
    proxy = stack.enter_context(Echoing(port) if what == "refused" else Proxy(port))
    if what == "cut":
        proxy.script("GET", "", *[CUT_ANSWER] * 99)
        proxy.script("PUT", "", *[CUT_ANSWER] * 99)
    elif what == "failing":
        for method in ("GET", "PUT", "HEAD"):
            proxy.script(method, "", *[FAIL] * 99)
    return proxy.endpoint


@pytest.mark.parametrize("place", ["environment", "profile"])
@pytest.mark.parametrize("what", ["refused", "nobody there", "cut", "failing", "no bucket"])
def test_whatever_fails_at_s3_no_secret_is_told(
    what: str, place: str, moto: MotoServer, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        endpoint = failing_server(what, stack, moto.port)
        planted = s3_planted(place, tmp_path, endpoint)
        if what in {"refused", "nobody there"}:
            planted.env |= LOUDER
        bucket = moto.make_bucket() if what == "cut" else "s3://nobodys-bucket"
        ran = planted.run("--home", str(tmp_path / ".mlops"), "init", "--backend", bucket)
    assert ran.code == 30, ran.err
    assert "Traceback" in ran.err
    planted.watch.check_folder(tmp_path, but=planted.files)


def test_a_certificate_that_is_anothers_brings_no_secret_along(
    misnamed_moto: TlsMotoServer, tmp_path: Path
) -> None:
    planted = s3_planted("environment", tmp_path, misnamed_moto.endpoint)
    planted.env["AWS_CA_BUNDLE"] = str(misnamed_moto.authority)
    ran = planted.run("init", "--backend", "s3://bucket")
    assert ran.code == 30
    assert "isn't to be trusted" in ran.err


@pytest.mark.parametrize("what", ["refused", "nobody there", "cut", "failing"])
@pytest.mark.parametrize("place", ["connection string", "signature in a connection string"])
def test_whatever_fails_at_azure_no_secret_is_told(
    what: str, place: str, azurite: AzuriteServer, tmp_path: Path
) -> None:
    with contextlib.ExitStack() as stack:
        # Its own answers: neither the key nor the signature is right.
        own = what == "refused" and place == "connection string"
        endpoint = azurite.endpoint if own else failing_server(what, stack, azurite.port)
        planted = azure_planted(place, endpoint)
        planted.env |= LOUDER
        ran = planted.run("--home", str(tmp_path / ".mlops"), "init", "--backend", "az://models")
    assert ran.code == 30, ran.err
    planted.watch.check_folder(tmp_path)


def test_what_is_no_connection_string_is_not_repeated(tmp_path: Path) -> None:
    planted = azure_planted("broken", "")
    ran = planted.run("--home", str(tmp_path / ".mlops"), "init", "--backend", "az://models")
    assert ran.code == 2, ran.err


def malformed(planted: Planted) -> None:
    path = planted.files[0]
    path.write_text(path.read_text().replace(" = ", " "))


def of_two_lines(planted: Planted) -> None:
    path = planted.files[0]
    token = planted.watch.canaries[1]
    path.write_text(path.read_text().replace(str(token), f"{token}\n  and more"))


def with_an_endpoint_that_has_a_password(planted: Planted) -> None:
    password = Canary("password")
    planted.watch = Watch([*planted.watch.canaries, password])
    planted.env["AWS_ENDPOINT_URL"] = f"http://me:{quote(str(password), safe='')}@127.0.0.1:9"


def through_a_proxy_that_has_a_password(planted: Planted) -> None:
    password = Canary("password")
    planted.watch = Watch([*planted.watch.canaries, password])
    proxy = f"http://me:{quote(str(password), safe='')}@127.0.0.1:9"
    planted.env |= {"HTTP_PROXY": proxy, "HTTPS_PROXY": proxy, "NO_PROXY": ""}
    planted.env["AWS_ENDPOINT_URL"] = "http://s3.example"


@pytest.mark.parametrize(
    "spoil",
    [
        malformed,
        of_two_lines,
        with_an_endpoint_that_has_a_password,
        through_a_proxy_that_has_a_password,
    ],
)
def test_a_profile_that_is_wrong_is_not_repeated(
    spoil: Callable[[Planted], None], tmp_path: Path
) -> None:
    planted = s3_planted("profile", tmp_path, NOBODY)
    spoil(planted)
    ran = planted.run("--home", str(tmp_path / ".mlops"), "init", "--backend", "s3://bucket")
    assert ran.code in {2, 30}, ran.err
    planted.watch.check_folder(tmp_path, but=planted.files)


# --- where secrets don't belong ------------------------------------------------------------------

SECRET: Final = Canary("secret")


def named(text: str) -> str:
    """Return a test's name that is the same in every process: the canary is another one in each."""
    return re.sub("cAnAry[0-9a-f]+", "canary", text)


IN_URLS: Final = (
    f"s3://key:{SECRET}@bucket/p",
    f"s3://key:{quote(str(SECRET), safe='')}@bucket",
    f"S3:key:{SECRET}@bucket",
    f"key:{quote(str(SECRET), safe='')}@bucket",
    f"az://container?sv=2021&sig={quote(str(SECRET), safe='')}",
    f"https://acc.blob.core.windows.net/c?sig={quote(str(SECRET), safe='')}",
    f"DefaultEndpointsProtocol=https;AccountName=acc;AccountKey={SECRET};",
    f"AccountName=acc;BlobEndpoint=http://h/acc;AccountKey={SECRET}",
    f"BlobEndpoint=http://h/acc;SharedAccessSignature=sv=2021&sig={quote(str(SECRET), safe='')}",
    f"sftp://me:{SECRET}@host/models",
    f"sftp://me:{quote(str(SECRET), safe='')}@host/models",
    f"webdav://me:{quote(str(SECRET), safe='')}@host/models",
)
OPTIONS: Final[Mapping[str, object]] = {
    "key": str(SECRET),
    "secret": str(SECRET),
    "token": str(SECRET),
    "password": str(SECRET),
    "account_key": str(SECRET),
    "connection_string": f"AccountKey={SECRET}",
    "sas_token": f"sv=2021&sig={SECRET}",
    "client_kwargs": {"aws_secret_access_key": str(SECRET)},
    "endpoint_url": f"http://me:{quote(str(SECRET), safe='')}@127.0.0.1:9",
}


@pytest.mark.parametrize("url", IN_URLS, ids=named)
@pytest.mark.parametrize("command", ["init", "clone", "settings"])
def test_a_url_with_a_secret_is_refused_and_kept_nowhere(
    command: str, url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / ".mlops"
    at = ["-vv", "--debug", "--home", str(root)]
    if command == "settings":
        Home(tmp_path)
        settings = root / "config.toml"
        settings.write_text(f"[backend]\nurl = {json.dumps(url)}\n")
        settings.chmod(0o600)
        code = main([*at, "status"])
        settings.unlink()
    elif command == "init":
        code = main([*at, "init", "--backend", url])
    else:
        code = main([*at, "clone", url])
    told = capfd.readouterr()
    assert code == 2, told.err
    Watch([SECRET]).check("what is said", told.out + told.err)
    Watch([SECRET]).check_folder(tmp_path)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_settings_with_a_secret_are_refused_by_every_command(
    name: str, mode: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path)
    settings = home.root / "config.toml"
    value = OPTIONS[name]
    toml = (
        "{ " + ", ".join(f"{key} = {json.dumps(each)}" for key, each in value.items()) + " }"
        if isinstance(value, dict)
        else json.dumps(value)
    )
    settings.write_text(f'[backend]\nurl = "s3://bucket"\noptions = {{ {name} = {toml} }}\n')
    settings.chmod(mode)
    for command in (["status"], ["run", "new"], ["verify", "--json"]):
        assert main(["-vv", "--debug", "--home", str(home.root), *command]) == 2
        told = capfd.readouterr()
        assert str(settings) in told.err
        assert name in told.err
        assert ("change it at the store" in told.err) == (mode != 0o600)
        Watch([SECRET]).check("what is said", told.out + told.err)
    settings.unlink()
    Watch([SECRET]).check_folder(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        f'url = ["s3://key:{SECRET}@bucket"]',
        f'options = "secret {SECRET}"',
        f'secret = "{SECRET}"',
        f"secret = {SECRET}",
        f'"AccountKey={SECRET}" = 1',
    ],
    ids=named,
)
def test_settings_that_are_wrong_are_told_without_what_is_in_them(
    line: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path)
    (home.root / "config.toml").write_text(f"[backend]\n{line}\n")
    assert main(["-vv", "--debug", "--home", str(home.root), "status"]) == 2
    told = capfd.readouterr()
    Watch([SECRET]).check("what is said", told.out + told.err)


def test_an_option_with_a_secret_is_refused_and_kept_nowhere(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / ".mlops"
    for option in (f"secret={SECRET}", f"password={SECRET}", f"={SECRET}"):
        call = ["--debug", "--home", str(root), "init", "--backend", "s3://b", "--option", option]
        assert main(call) == 2
    told = capfd.readouterr()
    Watch([SECRET]).check("what is said", told.out + told.err)
    Watch([SECRET]).check_folder(tmp_path)


# --- bugs and signals ----------------------------------------------------------------------------


def test_a_bug_is_told_without_the_secrets_that_its_trace_would_show(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    known, unknown = Canary("known"), Canary("unknown")
    monkeypatch.setenv("AWS_SESSION_TOKEN", str(known))
    home = Home(tmp_path)

    def fail(*_: object) -> Any:  # noqa: ANN401 - it never returns
        cause = OSError(5, f"GET https://b/k?X-Amz-Security-Token={unknown}")
        raise RuntimeError(f"token {known}, secret={unknown}") from cause

    monkeypatch.setattr("modeldrop.backend.local.LocalBackend.children", fail)
    for more in ([], ["--json"]):
        assert main(["-vv", "--debug", "--home", str(home.root), "runs", *more]) == 1
        told = capfd.readouterr()
        assert "this is a bug in modeldrop: RuntimeError" in told.err
        assert "Traceback" in told.err
        Watch([known, unknown]).check("what is said", told.out + told.err)


# Before the service: its store fails with what nobody expects, and its words are a secret's.
FAILS: Final = """
import os
from modeldrop.backend.local import LocalBackend
def fail(self, key, size):
    try:
        raise OSError(5, "GET https://b/k?sig=" + os.environ["AWS_SESSION_TOKEN"])
    except OSError as error:
        raise RuntimeError("it was " + os.environ["AWS_SESSION_TOKEN"]) from error
LocalBackend.writer = fail
LocalBackend.create_in = lambda self, batch, key, data: None
"""


def test_a_bug_in_the_service_is_in_its_log_its_status_and_receipts_without_secrets(
    tmp_path: Path,
) -> None:
    known = Canary("known")
    watch = Watch([known])
    home = Home(tmp_path / "h")
    with contextlib.closing(home):
        service = home.start_ready(twist=FAILS, environ={**LOUD, "AWS_SESSION_TOKEN": str(known)})
        run = home.drop_whole(b"model")
        assert home.is_in(run, "blocked", "it was [hidden]")
        assert service.logs("RuntimeError")
        assert service.stop() == 0
    watch.check_folder(tmp_path)


@pytest.mark.slow
def test_the_service_fails_and_stops_without_telling_a_secret(
    moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = moto.make_bucket()
    with Echoing(moto.port) as echoing, Proxy(moto.port) as proxy:
        planted = s3_planted("environment", tmp_path, proxy.endpoint)
        for name, value in planted.env.items():
            monkeypatch.setenv(name, value)
        home = Home(tmp_path / "h", url, share_interval=0.2, retry_most=0.2)
        with contextlib.closing(home):
            service = home.start_ready(environ=LOUD)
            gate = threading.Event()
            # Each failure in turn, under what is being stored and shared.
            refusals: list[Callable[[Seen], int | None]] = [lambda _: 403, lambda _: 503]
            for answers in refusals:
                proxy.answers = answers
                run = home.drop_whole(os.urandom(1000))
                assert home.is_in(run, "blocked"), service.log
            proxy.answers = lambda _: None
            assert home.is_committed(run)
            proxy.away = True
            run = home.drop_whole(os.urandom(1000))
            assert home.is_in(run, "blocked"), service.log
            proxy.away = False
            proxy.script("PUT", run, *[CUT_ANSWER] * 3)
            assert home.is_committed(run)
            with (home.root / "config.toml").open("a") as file:
                file.write(f'[backend.options]\nsecret = "{planted.watch.canaries[0]}"\n')
            planted.files.append(home.root / "config.toml")
            service.signal(signal.SIGHUP)
            assert service.logs("settings were read again")
            # In the middle of a file, which SIGTERM leaves unfinished.
            proxy.before = lambda seen: proxy.hold(gate) if "model.bin" in seen.path else None
            home.drop_whole(os.urandom(9 * 2**20))
            assert comes_true(lambda: any("uploads" in each.path for each in proxy.requests))
            service.signal(signal.SIGTERM)
            assert service.logs("stopping")
            service.signal(signal.SIGTERM)
            assert service.wait() == 130
            gate.set()
            # With a secret among its settings it doesn't start, and says so without it.
            refused = home.start(environ={**LOUD, "AWS_ENDPOINT_URL": echoing.endpoint})
            assert refused.wait() == 2
            assert "'secret' holds a secret" in refused.log
    planted.watch.check_objects(objects_of(moto, url.removeprefix("s3://")))
    planted.watch.check_folder(tmp_path, but=planted.files)


@pytest.mark.slow
def test_a_program_that_is_ended_says_nothing_secret(
    moto: MotoServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = moto.make_bucket()
    with Proxy(moto.port) as proxy:
        planted = s3_planted("profile", tmp_path, proxy.endpoint)
        for name, value in planted.env.items():
            monkeypatch.setenv(name, value)
        with contextlib.closing(Home(tmp_path / "h", url)) as home:
            home.drop_whole(os.urandom(9 * 2**20))
            gate = threading.Event()
            proxy.before = lambda seen: proxy.hold(gate) if "model.bin" in seen.path else None
            loud = ("-vv", "--debug", "--home", home.root)
            call = program.command(*loud, "scan", "--once", options=("-W", "default"))
            with (tmp_path / "said").open("wb") as said:
                process = subprocess.Popen(
                    call, env=program.environment(**LOUD), stdout=said, stderr=said
                )
                held = comes_true(lambda: any("model.bin" in each.path for each in proxy.requests))
                planted.watch.check_processes()
                process.send_signal(signal.SIGTERM)
                gate.set()
                assert process.wait(30) == -signal.SIGTERM
            assert held
    planted.watch.check_folder(tmp_path, but=planted.files)


@pytest.mark.slow
def test_at_azure_too_no_secret_is_in_any_place(
    azurite: AzuriteServer, azure_url: str, tmp_path: Path
) -> None:
    # The one key that Azurite takes.
    watch = Watch([Known("key", azurite.key)])
    planted = Planted(watch, {})
    home = Home(tmp_path / "h", azure_url)
    with contextlib.closing(home):
        service = home.start_ready(environ=LOUD)
        run = home.drop_whole(os.urandom(2**20))
        assert home.is_committed(run)
        call = ("--home", str(home.root))
        assert planted.run(*call, "register", run, "-e", "churn").code == 0
        assert planted.run(*call, "doctor").code in {0, 3, 20}
        watch.check_processes()
        assert service.stop() == 0
    watch.check_folder(tmp_path)
