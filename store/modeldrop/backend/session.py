"""Where a bucket of S3 is, and who asks, by all the rules that botocore has."""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from botocore.config import Config
from botocore.session import Session
from botocore.utils import get_environ_proxies

from modeldrop.backend.access import Access, Asked, Keys, authorities
from modeldrop.backend.connections import Limits

_NAME: Final = "k"
# Directory buckets sign with keys of their own.
_EXPRESS: Final = "--x-s3"


class _Asked(Exception):
    """A request is complete, and isn't to be sent."""


def find(bucket: str, asked: Asked) -> Access | None:
    """Return how s3fs would reach a bucket, or None where only s3fs can."""
    if bucket.endswith(_EXPRESS):
        return None
    where_to = {"endpoint_url": asked.endpoint} if asked.endpoint else {}
    try:
        session: Any = Session(profile=asked.profile)
        client = session.create_client(
            "s3", config=Config(**asked.config), **{**asked.client, **where_to}
        )
        url = _url(client, bucket)
        holder = session.get_credentials()
    except Exception:  # noqa: BLE001 - without credentials, say: s3fs tells of it when it is used
        return None
    parts = urlsplit(url)
    settings = client.meta.config
    region = client.meta.region_name
    if (
        settings.signature_version != "s3v4"
        or not region
        or holder is None
        or not parts.path.endswith(f"/{_NAME}")
    ):
        return None
    base = f"{parts.scheme}://{parts.netloc}{parts.path.removesuffix(_NAME)}"
    # What goes by no proxy is among them.
    proxies = {**(settings.proxies or {}), **get_environ_proxies(base)}
    if settings.client_cert or set(proxies) - {"no"}:
        return None

    def keys() -> Keys:
        # botocore renews them a quarter of an hour before they end.
        now = holder.get_frozen_credentials()
        return Keys(now.access_key, now.secret_key, now.token)

    trusted = None
    if parts.scheme == "https":
        configured = session.get_config_variable("ca_bundle")
        trusted = authorities(asked.client.get("verify"), configured)
    limits = Limits(settings.connect_timeout, settings.read_timeout)
    return Access(base, str(client.meta.endpoint_url), region, keys, limits, trusted)


def _url(client: Any, bucket: str) -> str:  # noqa: ANN401 - botocore's own
    """Return where an object would be asked for; what is signed for others is asked elsewhere."""

    def stop(request: Any, **_: object) -> None:  # noqa: ANN401 - botocore's own
        raise _Asked(request.url)

    client.meta.events.register_first("before-sign.s3.GetObject", stop)
    try:
        client.get_object(Bucket=bucket, Key=_NAME)
    except _Asked as asked:
        return str(asked)
    raise AssertionError
