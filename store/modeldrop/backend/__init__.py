"""Where bytes live: `open_backend` turns a URL into a backend, and `base` says what that is.

Nothing here imports fsspec or a client library until a backend that needs it is first used: a
command on a local backend pays for none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from modeldrop.backend import urls
from modeldrop.backend.base import Backend, Capabilities, Source, Stored, Writer, check_key
from modeldrop.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from modeldrop.backend.driver import Driver

__all__ = [
    "Backend",
    "Capabilities",
    "Source",
    "Stored",
    "Writer",
    "check_key",
    "open_backend",
]


def open_backend(url: str, options: Mapping[str, object], base: Path | None) -> Backend:
    """Return the backend of a URL; nothing is read, written or connected to yet.

    `options` go to the URL's fsspec driver (`endpoint_url`, `region_name`, `profile`, `anon` …);
    a relative path is relative to `base`, or to the working folder.

    Raises:
        ConfigError: the URL or an option can't be right, or holds a secret.
        DriverMissing: the URL's driver isn't installed.
    """
    address = urls.parse(url, base)
    urls.check_options(options)
    if address.path is not None:
        if options:
            message = f"a folder has no backend options, and {min(options)!r} is set"
            raise ConfigError(message, hint="remove it from the configuration")
        from modeldrop.backend.local import LocalBackend  # noqa: PLC0415 - see the docstring

        return LocalBackend(address.path)
    urls.check_driver(address.protocol)
    from modeldrop.backend.objects import ObjectBackend  # noqa: PLC0415 - see the docstring

    return ObjectBackend(address, _connector(address, {**address.options, **options}))


def _connector(address: urls.Address, options: Mapping[str, object]) -> Callable[[], Driver]:
    def connect() -> Driver:
        if address.protocol in urls.S3:
            from modeldrop.backend.s3 import S3Driver  # noqa: PLC0415 - imports s3fs

            return S3Driver(address.bucket, options)
        if address.protocol in urls.AZURE:
            from modeldrop.backend.azure import AzureDriver  # noqa: PLC0415 - imports adlfs

            return AzureDriver(address.bucket, options)
        if address.protocol in urls.GCS:
            from modeldrop.backend.gcs import GcsDriver  # noqa: PLC0415 - imports gcsfs

            return GcsDriver(address.bucket, options)
        if address.protocol in urls.SFTP:
            from modeldrop.backend.sftp import SftpDriver  # noqa: PLC0415 - imports asyncssh

            return SftpDriver(address, options)
        if address.protocol in urls.WEBDAV:
            from modeldrop.backend.webdav import WebdavDriver  # noqa: PLC0415 - imports webdav4

            return WebdavDriver.connect(address, options)
        from modeldrop.backend.plain import PlainDriver  # noqa: PLC0415 - imports fsspec

        return PlainDriver.connect(address, options)

    return connect
