"""Where a bucket of S3 is, and who asks: what `direct` has to know before its first request.

Two find it out, with the same answers: `environment`, where all is said in so many words, and
`session`, which asks botocore, by all the rules that there are, and takes long to load.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

from modeldrop.backend.connections import Limits
from modeldrop.structs import Frozen

# What s3fs was given beyond these may change a request in ways that are unknown here.
_OPTIONS: Final = frozenset(
    {"endpoint_url", "region_name", "profile", "anon", "client_kwargs", "config_kwargs"}
)
_CLIENT: Final = frozenset({"endpoint_url", "region_name", "verify"})
_CONFIG: Final = frozenset(
    {
        *("s3", "connect_timeout", "read_timeout", "max_pool_connections", "retries", "proxies"),
        *("request_checksum_calculation", "response_checksum_validation"),
    }
)
_ADDRESSING: Final = frozenset({"addressing_style"})


class Keys(NamedTuple):
    """What requests are signed with."""

    access: str
    secret: str
    token: str | None


class Access(Frozen):
    """A bucket's address, and what is needed to ask for something there."""

    base: str
    """What stands before a key."""
    endpoint: str
    """The server's address, without the bucket."""
    region: str
    keys: Callable[[], Keys]
    """Returns what to sign with, as it is now."""
    limits: Limits
    authorities: str | None
    """The file of certificates to trust, where the address begins with `https`."""


class Asked(NamedTuple):
    """What s3fs was asked for, in so far as it concerns an address."""

    endpoint: str | None
    profile: str | None
    client: Mapping[str, Any]
    config: Mapping[str, Any]


def asked(options: Mapping[str, object]) -> Asked | None:
    """Return what options ask for, or None where they may change requests otherwise."""
    client, config = _mapping(options.get("client_kwargs")), _mapping(options.get("config_kwargs"))
    if (
        options.get("anon")
        or set(options) - _OPTIONS
        or set(client) - _CLIENT
        or set(config) - _CONFIG
        or set(_mapping(config.get("s3"))) - _ADDRESSING
    ):
        return None
    verify = client.get("verify")
    if not (verify is None or verify is True or isinstance(verify, str)):
        return None
    endpoint, other = options.get("endpoint_url") or None, client.get("endpoint_url")
    if endpoint and other not in {None, endpoint}:
        return None
    profile = options.get("profile")
    return Asked(
        None if endpoint is None and other is None else str(endpoint or other),
        None if profile is None else str(profile),
        client,
        config,
    )


def authorities(verify: object, configured: str | None) -> str:
    """Return the file of certificates to trust, in the order in which botocore looks for it."""
    for named in (verify, configured, os.environ.get("REQUESTS_CA_BUNDLE")):
        if named is not None and named is not True:
            return str(named)
        if named is True:
            break
    if importlib.util.find_spec("certifi") is None:
        from botocore.httpsession import DEFAULT_CA_BUNDLE  # noqa: PLC0415 - takes long to load

        return str(DEFAULT_CA_BUNDLE)
    from certifi import where  # noqa: PLC0415 - only where there are certificates

    return where()


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
