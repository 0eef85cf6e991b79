"""What holds for every test: it stays out of the real home, and its servers are real."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

import pytest
from hypothesis import settings
from hypothesis.database import DirectoryBasedExampleDatabase

from modeldrop import Repository, disk
from modeldrop.backend import Backend, open_backend
from support.intake import make_home
from support.servers import (
    AzuriteServer,
    GcsServer,
    MotoServer,
    RcloneS3Server,
    Server,
    ServerMissing,
    SftpServer,
    TlsMotoServer,
    WebdavServer,
)

AnyServer = TypeVar("AnyServer", bound=Server)


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() not in {"", "0", "false"}


IN_CI: Final = _is_set("CI")
SERVERS_REQUIRED: Final = IN_CI or _is_set("MODELDROP_REQUIRE_SERVERS")
# Read before the environment of each test is cleaned.
SOAKS: Final = _is_set("MODELDROP_SOAK")

# What changes the behaviour of our programs, of the clients of object stores, of git and of
# terminals. COVERAGE_* stays: it is how child processes are measured.
_FOREIGN: Final = (
    "MODELDROP_",
    "AWS_",
    "AZURE_",
    "GIT_",
    "GOOGLE_",
    "GCSFS_",
    "STORAGE_EMULATOR_",
    "SSH_",
    "FSSPEC_",
    "S3FS_",
    "XDG_",
    "CLICOLOR",
)
_FOREIGN_NAMES: Final = frozenset(
    {
        *("NETRC", "COLUMNS", "LINES", "FORCE_COLOR", "NO_COLOR", "PAGER"),
        *("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_FDS", "LISTEN_PID"),
    }
)

# The examples that failed are kept by the repository, not in the folder where a test happens to
# be. A busy machine makes an example slow, which is no failure; in CI the same examples each time,
# so that a red build is about the change.
settings.register_profile(
    "modeldrop",
    deadline=None,
    derandomize=IN_CI,
    database=None
    if IN_CI
    else DirectoryBasedExampleDatabase(Path(__file__).parents[1] / ".hypothesis" / "examples"),
    print_blob=True,
)
settings.load_profile("modeldrop")

# A shell without job control has what it starts in the background ignore Ctrl-C, and so would the
# programs that the tests start, and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what takes minutes, unless it was asked for."""
    if item.get_closest_marker("soak") and not SOAKS:
        pytest.skip("takes minutes; `make soak` runs it")


@pytest.fixture(autouse=True)
def _own_loggers() -> Iterator[None]:
    """Leave logging as it was: a program that ran in this process has it write to that stderr."""
    ours = [logging.getLogger(name) for name in ("modeldrop", "modeldrop_cli", "modeldrop_daemon")]
    before = [(each, each.handlers, each.level, each.propagate) for each in ours]
    hook = threading.excepthook
    yield
    threading.excepthook = hook
    for logger, handlers, level, propagate in before:
        logger.handlers, logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture(autouse=True)
def _no_waiting_left() -> Iterator[None]:
    """Have whoever forgets a file that is waited for (`Syncing`) be told, not the next test."""
    yield
    waiting = [each for each in threading.enumerate() if each.name == "sync"]
    for each in waiting:
        each.join(20)
    assert not any(each.is_alive() for each in waiting)


@pytest.fixture(autouse=True)
def _own_world(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """Keep a test out of the real home and environment, and leave both as they were.

    HOME is a new, empty folder; the working folder is `tmp_path`, since a home is also looked for
    at and above it; the umask is the usual one.
    """
    for name in list(os.environ):
        if name.startswith(_FOREIGN) or name in _FOREIGN_NAMES:
            monkeypatch.delenv(name)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    # Without them, a client that finds no credentials asks an address that only the machines of a
    # cloud answer, and waits.
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1,localhost")
    monkeypatch.chdir(tmp_path)
    # The service takes them for itself, also where a test runs it in this process.
    monkeypatch.setattr(sys, "unraisablehook", sys.unraisablehook)
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    before = os.umask(0o022)
    yield
    os.umask(before)


@pytest.fixture
def waits_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every file waited for by itself, so that a test can count the waits or fail one."""
    monkeypatch.setattr(disk, "syncs_whole", lambda _: False)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    """A new home with its embedded backend, and quick settings; a test file may have its own."""
    with make_home(tmp_path / ".mlops") as opened:
        yield opened


@pytest.fixture
def staging(repository: Repository) -> Path:
    """The staging folder of `repository`."""
    return repository.home.staging


@pytest.fixture(scope="session")
def moto() -> Iterator[MotoServer]:
    """An S3 server whose create-if-absent holds; one for each worker, for the whole session."""
    with _running(MotoServer()) as server:
        yield server


@pytest.fixture(scope="session")
def tls_moto() -> Iterator[TlsMotoServer]:
    """An S3 server with a certificate for the address that it has; one for each worker."""
    with _running(TlsMotoServer("127.0.0.1")) as server:
        yield server


@pytest.fixture(scope="session")
def misnamed_moto() -> Iterator[TlsMotoServer]:
    """An S3 server with a valid certificate, but for another name; one for each worker."""
    with _running(TlsMotoServer("other.example")) as server:
        yield server


@pytest.fixture(scope="session")
def azurite() -> Iterator[AzuriteServer]:
    """An Azure server whose create-if-absent holds; one for each worker."""
    with _running(AzuriteServer()) as server:
        yield server


@pytest.fixture(scope="session")
def rclone_s3() -> Iterator[RcloneS3Server]:
    """An S3 server whose create-if-absent does not hold; one for each worker."""
    with _running(RcloneS3Server()) as server:
        yield server


@pytest.fixture(scope="session")
def gcs() -> Iterator[GcsServer]:
    """A server of Google Cloud Storage whose create-if-absent holds; one for each worker."""
    with _running(GcsServer(honours=True)) as server:
        yield server


@pytest.fixture(scope="session")
def careless_gcs() -> Iterator[GcsServer]:
    """A server of Google Cloud Storage that ignores the condition; one for each worker."""
    with _running(GcsServer(honours=False)) as server:
        yield server


@pytest.fixture(scope="session")
def sftp() -> Iterator[SftpServer]:
    """A server of files over SSH; one for each worker."""
    with _running(SftpServer(links=True)) as server:
        yield server


@pytest.fixture(scope="session")
def linkless_sftp() -> Iterator[SftpServer]:
    """A server of files over SSH that knows no hard links; one for each worker."""
    with _running(SftpServer(links=False)) as server:
        yield server


@pytest.fixture(scope="session")
def webdav() -> Iterator[WebdavServer]:
    """A WebDAV server; one for each worker."""
    with _running(WebdavServer()) as server:
        yield server


@pytest.fixture
def s3_url(moto: MotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a new, empty bucket; the environment leads S3 clients to it."""
    with _clients_led_to(moto, monkeypatch):
        yield moto.make_bucket()


@pytest.fixture
def tls_s3_url(tls_moto: TlsMotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a new, empty bucket over TLS; the environment leads S3 clients to it."""
    with _clients_led_to(tls_moto, monkeypatch):
        yield tls_moto.make_bucket()


@pytest.fixture
def misnamed_s3_url(misnamed_moto: TlsMotoServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a bucket whose server has another's certificate."""
    with _clients_led_to(misnamed_moto, monkeypatch):
        yield misnamed_moto.make_bucket()


@pytest.fixture
def azure_url(azurite: AzuriteServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a new, empty container; the environment leads Azure clients to it."""
    with _clients_led_to(azurite, monkeypatch):
        yield azurite.make_container()


@pytest.fixture
def rclone_s3_url(rclone_s3: RcloneS3Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a new bucket on a server that has to be refused."""
    with _clients_led_to(rclone_s3, monkeypatch):
        yield rclone_s3.make_bucket()


@pytest.fixture
def gcs_url(gcs: GcsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a new, empty bucket of Google Cloud Storage; the environment leads to it."""
    with _clients_led_to(gcs, monkeypatch):
        yield gcs.make_bucket()


@pytest.fixture
def careless_gcs_url(careless_gcs: GcsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a new bucket on a server of Google Cloud Storage that has to be refused."""
    with _clients_led_to(careless_gcs, monkeypatch):
        yield careless_gcs.make_bucket()


@pytest.fixture
def sftp_url(sftp: SftpServer) -> str:
    """The URL of a new folder of an SFTP server, whose key is in the test's home."""
    sftp.introduce(Path.home())
    return sftp.make_folder()


@pytest.fixture
def linkless_sftp_url(linkless_sftp: SftpServer) -> str:
    """The URL of a new folder of an SFTP server where create-if-absent doesn't hold."""
    linkless_sftp.introduce(Path.home())
    return linkless_sftp.make_folder()


@pytest.fixture
def webdav_url(webdav: WebdavServer) -> str:
    """The URL of a new folder of a WebDAV server, whose password is in the test's home."""
    webdav.introduce(Path.home())
    return webdav.make_folder()


@pytest.fixture(scope="session")
def required() -> bool:
    """Whether a test whose other programs are missing is to fail."""
    return SERVERS_REQUIRED


@contextmanager
def _running(server: AnyServer) -> Iterator[AnyServer]:
    """Run a server; one that is not installed skips the test, or fails it where it must be there.

    A skip that nobody reads is how a backend goes untested for a year.
    """
    missing = None
    try:
        server.start()
    except ServerMissing as error:
        missing = str(error)
    if missing is not None:
        if SERVERS_REQUIRED:
            pytest.fail(missing, pytrace=False)
        pytest.skip(missing)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def _clients_led_to(server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set the environment for a server's clients, and see that none is kept from before or after.

    fsspec keeps its file systems by their arguments, and an endpoint from the environment is not
    one of them: without this, a test would talk to the server of the test before it.
    """
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)
    _forget_clients()
    yield
    _forget_clients()


def _forget_clients() -> None:
    for module, name in (("s3fs", "S3FileSystem"), ("adlfs", "AzureBlobFileSystem")):
        # Not imported, and so without any: importing takes half a second.
        if module in sys.modules:
            getattr(sys.modules[module], name).clear_instance_cache()


@pytest.fixture(params=["local", "s3", "azure"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    """A new backend of each kind that the service is mostly used with; prepared."""
    if request.param == "local":
        opened = open_backend(str(tmp_path / "store"), {}, None)
    else:
        opened = open_backend(request.getfixturevalue(f"{request.param}_url"), {}, None)
    opened.prepare()
    return opened


@pytest.fixture
def local(tmp_path: Path) -> Backend:
    """A new folder as a backend; prepared."""
    opened = open_backend(str(tmp_path / "store"), {}, None)
    opened.prepare()
    return opened
