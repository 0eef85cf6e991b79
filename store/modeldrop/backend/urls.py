"""What a backend's URL may be, and what may not be in it: anything secret.

A URL and its options are written to config.toml, to records, to the journal and to logs. So a URL
or an option that holds a secret is refused before it gets anywhere, and the refusal doesn't
repeat it. Credentials come from where each cloud's own tools take them.
"""

from __future__ import annotations

import difflib
import importlib.util
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from modeldrop.errors import ConfigError, DriverMissing
from modeldrop.names import printable
from modeldrop.structs import Frozen, field

S3: Final = frozenset({"s3", "s3a"})
AZURE: Final = frozenset({"az", "abfs", "abfss"})
GCS: Final = frozenset({"gs", "gcs"})
SFTP: Final = frozenset({"sftp", "ssh"})
WEBDAV: Final = frozenset({"webdav", "webdavs"})
_LOCAL: Final = frozenset({"file", "local"})
# Stores of objects in buckets. The others have folders, which have to be made.
_BUCKETS: Final = S3 | AZURE | GCS | {"oss", "oci", "tos", "hf"}
# What fsspec opens and nobody can keep models in: read-only, or a view of another file system.
_NO_STORES: Final = frozenset(
    {
        *("http", "https", "data", "github", "gist", "git", "jlab", "jupyter", "pyscript"),
        *("zip", "tar", "libarchive", "reference", "dir", "generic", "dask", "wandb", "dvc"),
        *("cached", "blockcache", "filecache", "simplecache", "adl"),
        *("async_wrapper", "asyncwrapper", "asynclocal"),
    }
)
# The module that a protocol can't do without, and what to install for it.
_DRIVERS: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(S3, ("s3fs", "s3fs")),
    **dict.fromkeys(AZURE, ("adlfs", "adlfs")),
    **dict.fromkeys(GCS, ("gcsfs", "modeldrop[gcs]")),
    **dict.fromkeys(SFTP, ("asyncssh", "modeldrop[sftp]")),
    **dict.fromkeys(WEBDAV, ("webdav4", "modeldrop[webdav]")),
    "smb": ("smbprotocol", "smbprotocol"),
}

_S3_CREDENTIALS: Final = (
    "put credentials in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, in a profile of "
    "~/.aws/credentials (AWS_PROFILE), or use the machine's role"
)
_AZURE_CREDENTIALS: Final = (
    "put credentials in AZURE_STORAGE_CONNECTION_STRING, or in AZURE_STORAGE_ACCOUNT_NAME with "
    "AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or sign in with `az login`"
)
_GCS_CREDENTIALS: Final = (
    "put the path of a key file in GOOGLE_APPLICATION_CREDENTIALS, "
    "or sign in with `gcloud auth application-default login`"
)
_SSH_CREDENTIALS: Final = (
    "use an SSH agent, a key in ~/.ssh, or name a key file (option `client_keys`)"
)
_WEBDAV_CREDENTIALS: Final = (
    "put user and password into ~/.netrc (mode 0600), or the file that NETRC names; they are sent "
    "over https alone, which webdavs:// stands for"
)
_OTHER_CREDENTIALS: Final = "put credentials where the store's own tools look for them"

# Names of options and of URL parameters whose values nobody may read. `client_keys` and
# `SSEKMSKeyId` name a secret without being one.
_SECRET_NAME: Final = re.compile(
    r"(?i)(secret|passw|passphrase|passcode|token|credential|signature|connection_?string"
    r"|access_?key|account_?key|private_?key|api_?key|(^|[_-])auth$|(^|[_-])sas$|(^|[_-])sig$|key$)"
)
# Values that give themselves away, whatever they are called.
_SECRET_VALUE: Final = re.compile(
    r"(?i)(AccountKey\s*=|SharedAccess(Key|Signature)\s*=|[?&;](sig|signature|x-amz-signature"
    r"|x-amz-security-token|token)=|-----BEGIN|://[^/@\s]*:[^/@\s]*@)"
)
_BUCKET: Final = re.compile(r"[A-Za-z0-9$][A-Za-z0-9._-]{0,254}")
_PROTOCOL: Final = re.compile(r"[a-z][a-z0-9_+.-]*")


class Address(Frozen):
    """A parsed URL, without anything secret."""

    url: str
    protocol: str
    # The bucket or container; for stores with folders the host, with the user if there is one.
    bucket: str
    # Without slashes at either end.
    prefix: str
    # Where it is a folder of this machine, otherwise None.
    path: Path | None = None
    # What the URL said that the driver takes as an option.
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def in_bucket(self) -> bool:
        """Whether it is a prefix in a bucket, which isn't ours to make, or else a folder."""
        return self.protocol in _BUCKETS


def parse(url: str, base: Path | None) -> Address:
    """Return what a URL says; a relative path is relative to `base` or to the working folder.

    Raises:
        ConfigError: it can't be right, or it holds a secret.
    """
    if not url.strip():
        message = "the backend's URL is empty"
        raise ConfigError(message, hint="give a folder, s3://bucket/prefix or az://container")
    if printable(url) != url:
        message = "the backend's URL has a control character"
        raise ConfigError(message, hint="type it again")
    refuse_secrets(url)
    protocol, separator, rest = url.partition("://")
    protocol = protocol.lower()
    if not separator:
        # `s3:bucket` is a slip, not a file of that name.
        slip = re.match(r"(?i)(s3a?|az|abfss?|gs|gcs|sftp|file):", url)
        if slip:
            message = f"the backend's URL begins with {slip[0]!r}, without slashes"
            raise ConfigError(message, hint=f"write {slip[1].lower()}://…")
        return _local(url, base)
    if "::" in protocol or not _PROTOCOL.fullmatch(protocol):
        message = "the backend's URL begins with no protocol's name"
        raise ConfigError(message, hint="give a folder, s3://bucket/prefix or az://container")
    if protocol in _LOCAL:
        host, slash, path = rest.partition("/")
        if host not in ("", "localhost") or not slash:
            message = "a file:// URL has three slashes: file:///folder"
            raise ConfigError(message, hint="or give the plain path of the folder")
        return _local(unquote(f"/{path}"), None)
    return _remote(protocol, rest)


def _local(text: str, base: Path | None) -> Address:
    path = Path(text).expanduser()
    # Without following links: what the user wrote is what records and errors shall show.
    absolute = Path(os.path.normpath((base or Path.cwd()) / path))
    return Address(str(absolute), "file", "", "", absolute)


def _remote(protocol: str, rest: str) -> Address:
    if "?" in rest or "#" in rest:
        message = f"a {protocol}:// URL of a backend has no ? and no # in it"
        raise ConfigError(message, hint="settings of a store go into the backend's options")
    host, _, prefix = rest.partition("/")
    prefix = prefix.strip("/")
    if any(part in ("", ".", "..") for part in prefix.split("/")) and prefix:
        message = f"the prefix {prefix!r} of the backend's URL has an empty or dotted component"
        raise ConfigError(message, hint=f"write {protocol}://{host}/folder/folder")
    if "\\" in prefix:
        message = "the prefix of the backend's URL has a backslash"
        raise ConfigError(message, hint="components are separated by /")
    options: dict[str, object] = {}
    bucket = host
    if protocol in AZURE and "@" in host:
        # The form that Azure itself writes: abfs://container@account.dfs.core.windows.net/path
        bucket, _, account = host.partition("@")
        options["account_name"] = account.partition(".")[0]
    if protocol in _BUCKETS and not _BUCKET.fullmatch(bucket):
        message = f"a {protocol}:// URL begins with the name of a bucket or container"
        raise ConfigError(message, hint=f"write {protocol}://bucket/prefix")
    return Address(
        f"{protocol}://{host}/{prefix}".rstrip("/"), protocol, bucket, prefix, options=options
    )


def refuse_secrets(url: str) -> None:
    """Refuse a URL that holds a secret; it isn't repeated.

    Raises:
        ConfigError: it does.
    """
    protocol, separator, rest = url.partition("://")
    if not separator:
        # What would be taken for a folder and named in every record: a connection string that was
        # given as the URL, and a user's password before a host.
        if _SECRET_VALUE.search(url) or re.match(r"[^/@\s:]+:.*@", url):
            _refuse("", "it holds a key or a password")
        return
    _refuse_secrets(protocol.lower(), rest)


def _refuse_secrets(protocol: str, rest: str) -> None:
    before, mark, query = rest.partition("?")
    if mark and any(
        _SECRET_NAME.search(pair.partition("=")[0].strip()) for pair in re.split("[&;]", query)
    ):
        _refuse(protocol, "its query holds a signature or a token")
    # A secret may have a slash in it, so that "the host" would end in the middle of it.
    user, at, _ = before.rpartition("@")
    if at and ":" in user:
        _refuse(protocol, "it holds a user's password")
    if at and protocol in S3 | GCS and "/" not in user:
        _refuse(protocol, "it holds a key")
    if protocol in _BUCKETS and ":" in before.partition("/")[0]:
        _refuse(protocol, "there is a colon in its bucket, as before a password")
    if _SECRET_VALUE.search(rest):
        _refuse(protocol, "it holds a key")


def _refuse(protocol: str, why: str) -> None:
    message = f"the backend's URL isn't accepted: {why}, and URLs are written to logs and records"
    raise ConfigError(message, hint=credentials_hint(protocol))


def credentials_hint(protocol: str) -> str:
    """Return where a store's credentials belong."""
    if protocol in S3:
        return _S3_CREDENTIALS
    if protocol in AZURE:
        return _AZURE_CREDENTIALS
    if protocol in GCS:
        return _GCS_CREDENTIALS
    if protocol in SFTP:
        return _SSH_CREDENTIALS
    if protocol in WEBDAV:
        return _WEBDAV_CREDENTIALS
    return f"{_OTHER_CREDENTIALS}: for s3, {_S3_CREDENTIALS}; for az, {_AZURE_CREDENTIALS}"


def check_options(options: Mapping[str, object]) -> None:
    """Refuse a secret among a backend's options, at any depth; it isn't repeated.

    Raises:
        ConfigError: there is one.
    """
    for name, value in _flatten(options):
        bad_name = _SECRET_NAME.search(name.rpartition(".")[2])
        # A switch named after a secret is none: `anon_token = false`.
        if (bad_name and not isinstance(value, bool)) or (
            isinstance(value, str) and _SECRET_VALUE.search(value)
        ):
            message = f"the backend option {printable(name)!r} holds a secret"
            raise ConfigError(
                message,
                hint=f"remove it from the configuration: for s3, {_S3_CREDENTIALS}; "
                f"for az, {_AZURE_CREDENTIALS}",
            )


def _flatten(options: Mapping[str, object], above: str = "") -> Iterator[tuple[str, object]]:
    for name, value in options.items():
        full = f"{above}{name}"
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{full}.")
        else:
            yield full, value


def check_driver(protocol: str) -> None:
    """Look whether fsspec knows a protocol and its driver is installed, without importing it.

    Raises:
        ConfigError: no such protocol, or none that can be written to.
        DriverMissing: the driver isn't installed; the hint names what to install.
    """
    if protocol in _DRIVERS:
        module, package = _DRIVERS[protocol]
    else:
        module, package = _ask_fsspec(protocol)
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        message = f"{protocol}:// needs {module.partition('.')[0]}, which isn't installed"
        raise DriverMissing(message, hint=f"`pip install '{package}'`")


def driver_of(url: str) -> str:
    """Return the name of the driver of a backend's URL, or an empty text if it needs none."""
    protocol, separator, _ = url.partition("://")
    return _DRIVERS.get(protocol, ("fsspec", ""))[0] if separator else ""


def _ask_fsspec(protocol: str) -> tuple[str, str]:
    from fsspec.registry import known_implementations  # noqa: PLC0415 - takes 0.1 s to import

    if protocol in _NO_STORES:
        message = f"{protocol}:// can't hold a backend: it is read-only, or a view of other stores"
        raise ConfigError(message, hint="give a folder, s3://bucket/prefix or az://container")
    if protocol not in known_implementations:
        message = f"no store is called {protocol}://"
        # Of the many that fsspec knows, only what somebody keeps models in.
        near = difflib.get_close_matches(protocol, [*_DRIVERS, *_LOCAL], n=3, cutoff=0.5)
        names = ", ".join(f"{name}://" for name in near or ("s3", "az", "gs", "sftp", "file"))
        raise ConfigError(message, hint=f"did you mean {names}?")
    known = known_implementations[protocol]
    module = str(known["class"]).rpartition(".")[0]
    return module, module.partition(".")[0]


def without_secrets(address: str) -> str:
    """Return the address of a server without a user, a query or a fragment."""
    plain = re.split("[?#]", address, maxsplit=1)[0]
    return re.sub(r"://[^/@]*@", "://", plain)
