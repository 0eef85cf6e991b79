"""Every failure of a store is one of ours, says what to do, and tells no secret."""

import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import pytest

from modeldrop import disk, errors, files, redaction
from modeldrop.backend import Backend, failures, open_backend, urls
from modeldrop.backend.failures import Kind
from modeldrop.backend.local import LocalBackend
from modeldrop.backend.objects import ObjectBackend
from support.servers import AzuriteServer

# What must be seen nowhere. In base64, as an account's key is.
CANARY: Final = "Y2FuYXJ5LXNlY3JldC10aGF0LW11c3Qtbm90LWJlLXNlZW4tYW55d2hlcmUhISE="


def said(error: errors.ModeldropError) -> str:
    """Return all that a person, a program or a traceback could show of an error."""
    assert error.__cause__ is None or not isinstance(error, errors.BackendError)
    return f"{error} {error.hint} {error.detail} {error!r}"


def operations(backend: Backend) -> Mapping[str, Callable[[], object]]:
    def write() -> None:
        writer = backend.writer("a/upload", 1)
        try:
            writer.write(b"x")
            writer.finish()
        finally:
            writer.abort()

    return {
        "prepare": backend.prepare,
        "read": lambda: backend.read("a/1"),
        "create": lambda: backend.create("a/1", b"x"),
        "stat": lambda: backend.stat("a/1"),
        "write": write,
        "source": lambda: backend.source("a/1"),
        "children": lambda: list(backend.children("a")),
        "walk": lambda: list(backend.walk("")),
        "delete": lambda: backend.delete("a/1"),
        "replace": lambda: backend.replace("a/1", b"x"),
        "clear": lambda: backend.clear("a"),
    }


OPERATIONS: Final = tuple(operations(LocalBackend(Path("/"))))


# --- URLs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/srv/models", ("/srv/models", "file", "", "")),
        ("/srv//x/../models/", ("/srv/models", "file", "", "")),
        ("models", ("/base/models", "file", "", "")),
        ("../models?x", ("/models?x", "file", "", "")),
        ("file:///srv/my%20models", ("/srv/my models", "file", "", "")),
        ("file://localhost/srv", ("/srv", "file", "", "")),
        ("s3://bucket", ("s3://bucket", "s3", "bucket", "")),
        ("S3://bucket/a/b/", ("s3://bucket/a/b", "s3", "bucket", "a/b")),
        ("az://container/a b", ("az://container/a b", "az", "container", "a b")),
        ("gs://bucket/p", ("gs://bucket/p", "gs", "bucket", "p")),
        ("sftp://me@host:22/srv", ("sftp://me@host:22/srv", "sftp", "me@host:22", "srv")),
    ],
)
def test_a_url_is_read(url: str, expected: tuple[str, str, str, str]) -> None:
    found = urls.parse(url, Path("/base"))
    assert (found.url, found.protocol, found.bucket, found.prefix) == expected
    assert (found.path is not None) == (found.protocol == "file")


def test_a_relative_path_without_a_base_is_in_the_working_folder(tmp_path: Path) -> None:
    assert urls.parse("models", None).path == Path(os.path.realpath(tmp_path)) / "models"
    assert urls.parse("~/models", Path("/base")).path == Path.home() / "models"


def test_the_account_that_azure_writes_into_a_url_is_an_option() -> None:
    found = urls.parse("abfs://c@acc.dfs.core.windows.net/p", None)
    assert (found.url, found.bucket) == ("abfs://c@acc.dfs.core.windows.net/p", "c")
    assert found.options == {"account_name": "acc"}


@pytest.mark.parametrize(
    "url",
    [
        "",
        " ",
        "s3:/bucket",
        "s3:bucket/x",
        "s3://",
        "s3:///prefix",
        "s3://bucket/a//b",
        "s3://bucket/../x",
        "s3://bucket/a\\b",
        "s3://bucket/a?versionId=1",
        "s3://bucket/a#b",
        "s3://bucket/\x1b]0;x",
        "file://srv/models",
        "simplecache::s3://bucket",
        "://bucket",
        "http://host/models",
        "https://host/models",
        "zip://x",
    ],
)
def test_a_url_that_can_not_be_right_is_a_usage_error(url: str) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        open_backend(url, {}, None)
    assert caught.value.exit_code == 2
    assert caught.value.hint
    assert "\x1b" not in said(caught.value)


@pytest.mark.parametrize(
    ("url", "place"),
    [
        (f"s3://AKIAIOSFODNN7EXAMPLE:{CANARY}@bucket/p", "AWS_ACCESS_KEY_ID"),
        (f"s3://AKIAIOSFODNN7EXAMPLE:half/{CANARY}@bucket/p", "AWS_ACCESS_KEY_ID"),
        (f"s3://{CANARY}@bucket/p", "AWS_ACCESS_KEY_ID"),
        (f"s3://key:{CANARY}/p", "AWS_ACCESS_KEY_ID"),
        (f"s3://bucket/p?X-Amz-Signature={CANARY}", "AWS_ACCESS_KEY_ID"),
        (f"s3://bucket/p?x=1&secret={CANARY}", "AWS_ACCESS_KEY_ID"),
        (f"az://container/p?sv=2024&sig={CANARY}", "AZURE_STORAGE_CONNECTION_STRING"),
        (f"az://container/p?AccountKey={CANARY}", "AZURE_STORAGE_CONNECTION_STRING"),
        (f"abfs://c:{CANARY}@acc.dfs.core.windows.net/p", "AZURE_STORAGE_CONNECTION_STRING"),
        (f"https://acc.blob.core.windows.net/c?sv=1&sig={CANARY}", "AZURE_STORAGE_"),
        (f"gs://bucket/p?token={CANARY}", "GOOGLE_APPLICATION_CREDENTIALS"),
        (f"sftp://me:{CANARY}@host/p", "agent"),
        (f"ftp://me:{CANARY}@host/p", "credentials"),
        (f"nosuch://me:{CANARY}@host/p", "credentials"),
    ],
)
def test_a_secret_in_a_url_is_refused_and_not_repeated(url: str, place: str) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        open_backend(url, {}, None)
    assert caught.value.exit_code == 2
    assert CANARY not in said(caught.value)
    assert "AKIA" not in said(caught.value)
    assert place in caught.value.hint


@pytest.mark.parametrize(
    "options",
    [
        *(
            {name: CANARY}
            for name in (
                *("key", "secret", "token", "password", "account_key", "sas_token", "credential"),
                *("connection_string", "client_secret", "aws_secret_access_key", "passphrase"),
                *("session_token", "private_key", "api_key", "sas", "SSECustomerKey", "auth_token"),
            )
        ),
        {"client_kwargs": {"aws_secret_access_key": CANARY}},
        {"client_kwargs": {"deeper": {"password": CANARY}}},
        {"endpoint_url": f"https://me:{CANARY}@host"},
        {"endpoint_url": f"https://host/?sig={CANARY}"},
        {"account_host": f"AccountName=x;AccountKey={CANARY}"},
    ],
    ids=str,
)
def test_a_secret_among_the_options_is_refused_and_not_repeated(options: dict[str, object]) -> None:
    with pytest.raises(errors.ConfigError) as caught:
        open_backend("s3://bucket", options, None)
    assert CANARY not in said(caught.value)
    assert "AWS_ACCESS_KEY_ID" in caught.value.hint
    assert "AZURE_STORAGE_CONNECTION_STRING" in caught.value.hint


def test_options_that_are_no_secrets_are_passed_on() -> None:
    options: dict[str, object] = {
        "endpoint_url": "http://127.0.0.1:9000",
        "region_name": "eu-central-1",
        "profile": "models",
        "anon": False,
        "requester_pays": True,
        "key_filename": "/home/me/.ssh/id_ed25519",
        "s3_additional_kwargs": {"SSEKMSKeyId": "alias/models"},
    }
    urls.check_options(options)


def test_an_unknown_protocol_is_told_with_near_ones() -> None:
    with pytest.raises(errors.ConfigError, match="no store is called sftpp://") as caught:
        open_backend("sftpp://host/p", {}, None)
    assert "sftp://" in caught.value.hint


@pytest.mark.parametrize(
    ("protocol", "install"),
    [
        ("gs", "modeldrop[gcs]"),
        ("gcs", "modeldrop[gcs]"),
        ("sftp", "modeldrop[sftp]"),
        ("webdav", "modeldrop[webdav]"),
        ("webdavs", "modeldrop[webdav]"),
        ("oss", "ossfs"),
    ],
)
def test_a_driver_that_is_not_installed_is_named(
    protocol: str, install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whether this machine has it is neither here nor there.
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(errors.DriverMissing) as caught:
        open_backend(f"{protocol}://there/p", {}, None)
    assert caught.value.exit_code == 2
    assert f"pip install '{install}'" in caught.value.hint


def test_a_folder_takes_no_options(tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigError, match="region_name"):
        open_backend(str(tmp_path), {"region_name": "x"}, None)


def test_an_option_that_nobody_knows_is_a_configuration_error(s3_url: str) -> None:
    backend = open_backend(s3_url, {"no_such_option": 1}, None)
    with pytest.raises(errors.ConfigError, match="no_such_option"):
        backend.prepare()
    backend.close()


# --- folders ------------------------------------------------------------------------------------


@pytest.mark.parametrize("operation", [name for name in OPERATIONS if name != "prepare"])
def test_a_folder_that_is_gone_is_no_empty_store(tmp_path: Path, operation: str) -> None:
    root = tmp_path / "mounted"
    with pytest.raises(errors.BucketNotFound, match="mounted") as caught:
        operations(LocalBackend(root))[operation]()
    assert "mount" in caught.value.hint
    assert not root.exists()


@pytest.mark.parametrize(
    ("code", "expected", "hint"),
    [
        (errno.ENOSPC, errors.BackendError, "room"),
        (errno.EDQUOT, errors.BackendError, "quota"),
        (errno.EACCES, errors.BackendRefused, "ls -ld"),
        (errno.EROFS, errors.BackendRefused, "ls -ld"),
        (errno.ESTALE, errors.BackendUnreachable, "mounted"),
        (errno.EIO, errors.BackendError, "modeldrop verify"),
    ],
)
def test_an_error_of_the_file_system_is_told_with_path_cause_and_hint(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: int,
    expected: type[errors.BackendError],
    hint: str,
) -> None:
    backend = LocalBackend(tmp_path)
    assert backend.create("a/1", b"x")

    def fail(*_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        for module, name in ((os, "open"), (os, "stat"), (os, "listdir"), (os, "unlink")):
            patch.setattr(module, name, fail)
        patch.setattr(os, "scandir", fail)
        for name, ask in operations(backend).items():
            if name == "prepare":
                continue
            with pytest.raises(errors.BackendError) as caught:
                ask()
            assert type(caught.value) is expected, name
            assert str(tmp_path) in caught.value.message
            assert os.strerror(code) in caught.value.message
            assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("room", "at"), [(disk, "sync_file"), (files, "link_if_absent"), (disk, "sync_folder")]
)
def test_a_write_that_fails_at_the_end_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: ModuleType, at: str
) -> None:
    backend = LocalBackend(tmp_path)
    writer = backend.writer("upload/model.bin", 3)
    writer.write(b"abc")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(room, at, fail)
        with pytest.raises(errors.BackendError, match="Input/output error"):
            writer.finish()
    # The folder's sync comes last: by then the file is whole under its name, and unacknowledged.
    expected = ["model.bin"] if at == "sync_folder" else []
    assert os.listdir(tmp_path / "upload") == expected


def test_a_writer_that_lost_bytes_does_not_finish(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    writer = backend.writer("upload/model.bin", 3)
    writer.write(b"abc")
    os.truncate(writer._temp, 2)
    with pytest.raises(errors.BackendError, match="isn't as long"):
        writer.finish()
    assert os.listdir(tmp_path / "upload") == []


def test_what_is_no_regular_file_is_absent_and_never_waited_for(tmp_path: Path) -> None:
    backend = LocalBackend(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    assert backend.read("fifo") is None
    assert backend.stat("fifo") is None
    assert backend.source("fifo") is None
    assert list(backend.walk("")) == []


def test_without_hard_links_renaming_has_one_winner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "link", _no_links)
    backend = LocalBackend(tmp_path)
    assert backend.create("a/1", b"one")
    assert not backend.create("a/1", b"two")
    assert backend.read("a/1") == b"one"
    assert backend.capabilities.exclusive_create
    writer = backend.writer("a/2", 3)
    writer.write(b"abc")
    writer.finish()
    assert sorted(os.listdir(tmp_path / "a")) == ["1", "2"]


def test_without_any_exclusive_create_it_says_so_and_serves_one_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def neither(*_: object) -> bool:
        raise files.NoExclusiveCreate(errno.EINVAL, "neither")

    monkeypatch.setattr(files, "link_if_absent", neither)
    backend = LocalBackend(tmp_path)
    assert backend.create("a/1", b"one")
    assert not backend.create("a/1", b"two")
    assert backend.read("a/1") == b"one"
    assert not backend.capabilities.exclusive_create
    writer = backend.writer("a/2", 3)
    writer.write(b"abc")
    writer.finish()
    assert sorted(os.listdir(tmp_path / "a")) == ["1", "2"]
    again = backend.writer("a/2", 3)
    again.write(b"xyz")
    with pytest.raises(errors.BackendError, match="it is there already"):
        again.finish()
    assert backend.read("a/2") == b"abc"


# --- object stores ------------------------------------------------------------------------------


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address that refuses connections: bound, so that nobody else gets it, not listening."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["s3", "az"])
def test_a_store_that_does_not_answer_is_told_soon_and_without_secrets(
    kind: str, nobody: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", nobody)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", CANARY)
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING",
        f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey={CANARY};BlobEndpoint={nobody}/a;",
    )
    backend = open_backend(f"{kind}://bucket/p", {}, None)
    began = time.monotonic()
    for ask in (backend.prepare, lambda: backend.read("a/1"), lambda: backend.create("a/1", b"")):
        with pytest.raises(errors.BackendUnreachable) as caught:
            ask()
        assert nobody in caught.value.message
        assert f"{kind}://bucket/p" in caught.value.message
        assert "check the network" in caught.value.hint
        assert CANARY not in said(caught.value)
        assert "AKIA" not in said(caught.value)
    assert time.monotonic() - began < 30
    backend.close()


def test_refused_credentials_are_told_by_every_method(
    azurite: AzuriteServer, azure_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = azurite.connection_string.replace(azurite.key, CANARY)
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", wrong)
    backend = open_backend(azure_url, {}, None)
    for name, ask in operations(backend).items():
        with pytest.raises(errors.BackendRefused) as caught:
            ask()
        assert "AZURE_STORAGE_CONNECTION_STRING" in caught.value.hint, name
        assert CANARY not in said(caught.value)
    backend.close()


@pytest.mark.parametrize(
    ("kind", "place"), [("s3", "AWS_ACCESS_KEY_ID"), ("az", "AZURE_STORAGE_CONNECTION_STRING")]
)
def test_no_credentials_at_all_is_refused_with_where_they_go(kind: str, place: str) -> None:
    backend = open_backend(f"{kind}://bucket/p", {}, None)
    for _ in range(2):
        with pytest.raises(errors.BackendRefused) as caught:
            backend.prepare()
        assert place in caught.value.hint
    backend.close()


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("kind", ["s3", "az"])
def test_a_missing_bucket_is_told_whatever_is_asked_first(
    kind: str, operation: str, request: pytest.FixtureRequest
) -> None:
    request.getfixturevalue({"s3": "s3_url", "az": "azure_url"}[kind])
    backend = open_backend(f"{kind}://no-such-bucket-here/p", {}, None)
    with pytest.raises(errors.BucketNotFound, match="no-such-bucket-here"):
        operations(backend)[operation]()
    backend.close()


@pytest.mark.parametrize("operation", OPERATIONS)
def test_whatever_a_driver_raises_becomes_one_of_ours(operation: str) -> None:
    class Strange(Exception):
        pass

    class Driver:
        endpoint = "https://there"
        exclusive_create = True
        most_parts = 10

        def __getattr__(self, name: str) -> object:
            def fail(*_: object, **__: object) -> None:
                raise Strange(f"https://there/p?sig={CANARY} password={CANARY}")

            return fail

    driver: Any = Driver()
    backend = ObjectBackend(urls.parse("s3://bucket/p", None), lambda: driver)
    with pytest.raises(errors.BackendError, match="Strange") as caught:
        operations(backend)[operation]()
    assert type(caught.value) is errors.BackendError
    assert CANARY not in said(caught.value)
    backend.close()


def test_a_range_that_comes_short_is_no_end_of_file(s3_url: str) -> None:
    backend = open_backend(s3_url, {}, None)
    assert isinstance(backend, ObjectBackend)
    assert backend.create("a/1", b"0123456789")
    driver: Any = backend._bucket.driver
    real = driver.read
    driver.open = lambda *_: None
    driver.read = lambda key, start=None, end=None: real(key, start, end)[:-1]
    with backend.source("a/1") as source, pytest.raises(errors.BackendError, match="got 9"):  # type: ignore[union-attr] # it is there
        source.read(100)
    backend.close()


# --- what exceptions mean -----------------------------------------------------------------------


class _Azure(Exception):
    def __init__(self, text: str, code: str | None = None, status: int | None = None) -> None:
        super().__init__(text)
        self.error_code = code
        self.status_code = status

    def __repr__(self) -> str:
        return f"azure-{self.error_code}-{self.status_code}"


def _no_links(*_: object, **__: object) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


def _wrapped(inner: BaseException, outer: BaseException) -> BaseException:
    with contextlib.suppress(type(outer)):
        raise outer from inner
    return outer


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (_Azure("x", "BlobNotFound", 404), Kind.ABSENT),
        (_Azure("x", "ContainerNotFound", 404), Kind.BUCKET),
        (_Azure("x", None, 404), Kind.NOT_FOUND),
        (_Azure("x", "BlobAlreadyExists", 409), Kind.EXISTS),
        (_Azure("x", "LeaseIdMissing", 412), Kind.EXISTS),
        (_Azure("x", "AuthenticationFailed", 403), Kind.REFUSED),
        (_Azure("x", None, 403), Kind.REFUSED),
        (_Azure("x", "ServerBusy", 503), Kind.BUSY),
        (_Azure("x", None, 500), Kind.BUSY),
        (_Azure("x", "InvalidHeaderValue", 400), Kind.OTHER),
        (_wrapped(_Azure("x", "ContainerNotFound", 404), RuntimeError("up")), Kind.BUCKET),
        (_wrapped(_Azure("x", "AuthenticationFailed", 403), RuntimeError("up")), Kind.REFUSED),
        (FileExistsError("x"), Kind.EXISTS),
        (FileNotFoundError("x"), Kind.NOT_FOUND),
        (PermissionError("x"), Kind.REFUSED),
        (TimeoutError("x"), Kind.UNREACHABLE),
        (ConnectionResetError("x"), Kind.UNREACHABLE),
        (socket.gaierror("x"), Kind.UNREACHABLE),
        (_wrapped(ConnectionRefusedError("x"), ValueError("up")), Kind.UNREACHABLE),
        (OSError(errno.EIO, "x"), Kind.OTHER),
        (ValueError("x"), Kind.OTHER),
    ],
    ids=repr,
)
def test_an_exception_is_understood_without_its_library(error: Exception, kind: Kind) -> None:
    assert failures.kind_of(error) is kind


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("NoSuchKey", 404, Kind.ABSENT),
        ("404", 404, Kind.NOT_FOUND),
        ("NoSuchBucket", 404, Kind.BUCKET),
        ("NoSuchUpload", 404, Kind.OTHER),
        # Ceph RGW and Swift say it without naming the condition, and s3fs then says EINVAL.
        ("PreconditionFailed", 412, Kind.EXISTS),
        ("412", 412, Kind.EXISTS),
        # Somebody else is at it, and may yet fail: what happened is open.
        ("ConditionalRequestConflict", 409, Kind.OTHER),
        ("AccessDenied", 403, Kind.REFUSED),
        ("SignatureDoesNotMatch", 403, Kind.REFUSED),
        ("InvalidAccessKeyId", 403, Kind.REFUSED),
        ("ExpiredToken", 400, Kind.REFUSED),
        ("403", 403, Kind.REFUSED),
        ("SlowDown", 503, Kind.BUSY),
        ("InternalError", 500, Kind.BUSY),
        ("XAmzSomethingNew", 400, Kind.OTHER),
    ],
)
def test_what_s3fs_makes_of_an_answer_is_understood(code: str, status: int, kind: Kind) -> None:
    from botocore.exceptions import ClientError  # noqa: PLC0415 - takes 0.2 s
    from s3fs.errors import translate_boto_error  # noqa: PLC0415

    answer: Any = {
        "Error": {"Code": code, "Message": "x"},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    original = ClientError(answer, "GetObject")
    assert failures.kind_of(original) is kind
    assert failures.kind_of(translate_boto_error(original)) is kind


def test_every_exception_of_the_client_libraries_is_one_that_we_map() -> None:
    import azure.core.exceptions  # noqa: PLC0415 - takes 0.2 s
    import botocore.exceptions  # noqa: PLC0415 - takes 0.2 s

    no_answer = {
        *("EndpointConnectionError", "ConnectTimeoutError", "ReadTimeoutError", "SSLError"),
        *("ConnectionClosedError", "ServiceRequestError", "ServiceResponseTimeoutError"),
    }
    no_credentials = {"NoCredentialsError", "ClientAuthenticationError", "ProfileNotFound"}
    seen = set()
    for module in (botocore.exceptions, azure.core.exceptions):
        for name, cls in vars(module).items():
            if not (isinstance(cls, type) and issubclass(cls, Exception)):
                continue
            error = cls.__new__(cls)
            mapped = failures.failed(error, "read", "s3://bucket/a", "credentials", None)
            assert isinstance(mapped, errors.BackendError)
            if name in no_answer:
                assert isinstance(mapped, errors.BackendUnreachable), name
            if name in no_credentials:
                assert isinstance(mapped, errors.BackendRefused), name
            seen.add(name)
    assert no_answer | no_credentials <= seen


@pytest.mark.parametrize(
    "text",
    [
        f"https://acc.blob.core.windows.net/c/b?sv=2024-01-01&se=2026&sig={CANARY}",
        f"GET 'https://b.s3.amazonaws.com/k?X-Amz-Signature={CANARY}&X-Amz-Date=1'",
        f"http://user:{CANARY}@proxy:3128/",
        f"AccountName=acc;AccountKey={CANARY};EndpointSuffix=core.windows.net",
        f"SharedAccessSignature=sv=1&sig={CANARY}",
        f"aws_secret_access_key = {CANARY}",
        f'{{"secret": "{CANARY}"}}',
        f"x-amz-security-token: {CANARY}",
        f"Authorization: SharedKey acc:{CANARY}",
        f"Authorization: Bearer {CANARY}",
        f"AWS4-HMAC-SHA256 Credential=AKIAIOSFODNN7EXAMPLE/20260101, Signature={CANARY}",
        f"The MAC signature found in the HTTP request '{CANARY}' is not the same as any computed",
        f"Server used following string to sign: 'GET\n\n{CANARY}'",
        f"something about {CANARY} without a name",
        "key AKIAIOSFODNN7EXAMPLE is not known",
    ],
)
def test_no_text_of_a_library_brings_a_secret_along(text: str) -> None:
    for shown in (redaction.scrub(text), failures.describe(ValueError(text))):
        assert CANARY not in shown
        assert CANARY.rstrip("=") not in shown
        assert "AKIA" not in shown
        assert "\n" not in shown


def test_secrets_of_the_environment_are_hidden_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "correct horse")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountName=a;AccountKey=battery;X=1")
    assert redaction.scrub("it was correct horse, then battery") == (
        "it was [hidden], then [hidden]"
    )


@pytest.mark.parametrize(
    "text",
    [
        "The bucket models-2026 in eu-central-1 is not there",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08 is the digest",
        "3f2b8c1e-0000-4000-8000-000000000001/20260101T000000Z-0011223344556677/model.onnx",
        "Unable to locate credentials",
        "The request signature we calculated does not match the signature you provided",
    ],
)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    assert redaction.scrub(text) == text


def test_a_long_text_is_cut_and_control_characters_are_escaped() -> None:
    assert redaction.scrub("a\x1b[31mb\nc") == "a\\x1b[31mb c"
    assert len(redaction.scrub("word " * 1_000)) < 400
