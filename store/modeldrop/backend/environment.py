"""Where a bucket of S3 is, and who asks, where the environment says it in so many words.

botocore knows every rule, and takes a fifth of a second to load: as long as a small pull. Most of
the time a region and a pair of keys are all that it finds. So that is looked for here, and nothing
is guessed: at the first setting that isn't known here, whether or not it would matter, botocore is
asked. A test holds the answers of both against each other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import Final

from modeldrop.backend.access import Access, Asked, Keys, authorities
from modeldrop.backend.connections import Limits

_PREFIX: Final = "AWS_"
_READ: Final = frozenset(
    {
        *("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"),
        *("AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"),
        *("AWS_CA_BUNDLE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"),
    }
)
# What changes nothing about a request that is sent past s3fs with keys that are there.
_WITHOUT_EFFECT: Final = frozenset(
    {
        *("AWS_REGION", "AWS_EC2_METADATA_DISABLED", "AWS_DEFAULT_OUTPUT", "AWS_PAGER"),
        *("AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION"),
        *("AWS_MAX_ATTEMPTS", "AWS_RETRY_MODE"),
    }
)
# Files that change what botocore knows of S3.
_MODELS: Final = "~/.aws/models"
_CONFIG_FILE: Final = "~/.aws/config"
_KEYS_FILE: Final = "~/.aws/credentials"
_CONFIG: Final = frozenset({"region", "output", "cli_pager"})
_KEYS: Final = frozenset({"aws_access_key_id", "aws_secret_access_key", "aws_session_token"})
_DEFAULT: Final = "default"
_MOST_READ: Final = 1 << 16
_SECTION: Final = re.compile(r"\[([^\]]+)\]")
_SETTING: Final = re.compile(r"([a-z_]+) *= *(\S+)")

# Without dots, by which a certificate for all buckets isn't one for it.
_BUCKET: Final = re.compile(r"[a-z0-9](?:[a-z0-9]|-(?!-)){1,61}[a-z0-9]")
_ENDPOINT: Final = re.compile(r"(https?)://[a-z0-9](?:[a-z0-9.-]*[a-z0-9])?(?::[1-9][0-9]{0,4})?")
_REGION: Final = re.compile(r"[a-z0-9-]+")
# Those of the partition whose addresses end like this, as far as they are named alike.
_AMAZON: Final = re.compile(r"us-(?:east|west)-[0-9]|(?:af|ap|ca|eu|il|me|mx|sa)-[a-z]+-[0-9]")
# Whose address isn't named by it.
_OLDEST: Final = "us-east-1"
_SECONDS: Final = 60.0


def find(bucket: str, asked: Asked) -> Access | None:
    """Return what botocore would find out about a bucket, or None where it has to be asked."""
    set_to = os.environ
    if (
        asked.profile is not None
        or "proxies" in asked.config
        or not _BUCKET.fullmatch(bucket)
        or any(_is_unknown(name, value) for name, value in set_to.items())
        or os.path.lexists(os.path.expanduser(_MODELS))
    ):
        return None
    config = _section(set_to.get("AWS_CONFIG_FILE", _CONFIG_FILE), _CONFIG)
    found = _section(set_to.get("AWS_SHARED_CREDENTIALS_FILE", _KEYS_FILE), _KEYS)
    if config is None or found is None:
        return None
    keys = _keys(found)
    region = (
        asked.client.get("region_name")
        or set_to.get("AWS_DEFAULT_REGION")
        or config.get("region", "")
    )
    if keys is None or not isinstance(region, str) or not _REGION.fullmatch(region):
        return None
    place = _place(bucket, region, asked)
    if place is None:
        return None
    base, endpoint = place
    trusted = None
    if base.startswith("https:"):
        trusted = authorities(asked.client.get("verify"), set_to.get("AWS_CA_BUNDLE"))
    limits = Limits(
        asked.config.get("connect_timeout", _SECONDS), asked.config.get("read_timeout", _SECONDS)
    )
    return Access(base, endpoint, region, lambda: keys, limits, trusted)


def _is_unknown(name: str, value: str) -> bool:
    if name.startswith(_PREFIX):
        return name not in _WITHOUT_EFFECT and not (value and name in _READ)
    lower = name.lower()
    # Without any of the others, it says nothing.
    return lower.endswith("_proxy") and lower != "no_proxy"


def _keys(found: Mapping[str, str]) -> Keys | None:
    """Return what to sign with: that of the environment, or that of the file of keys."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
    access, secret, token = (os.environ.get(name) for name in names)
    if access is None:
        # Half of them here, and the other half there.
        if secret is not None or token is not None:
            return None
        access, secret, token = (
            found.get(name)
            for name in ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
        )
    return None if access is None or secret is None else Keys(access, secret, token)


def _place(bucket: str, region: str, asked: Asked) -> tuple[str, str] | None:
    """Return what stands before a key, and the server's address."""
    style = asked.config.get("s3", {}).get("addressing_style", "auto")
    endpoint = (
        asked.endpoint
        or os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
    )
    if endpoint is not None:
        # Other servers than Amazon's are asked by paths.
        if style not in {"auto", "path"} or not _ENDPOINT.fullmatch(endpoint):
            return None
        return f"{endpoint}/{bucket}/", endpoint
    if style != "auto" or not _AMAZON.fullmatch(region):
        return None
    host = f"s3.{region}.amazonaws.com" if region != _OLDEST else "s3.amazonaws.com"
    return f"https://{bucket}.{host}/", f"https://{host}"


def _section(path: str, known: frozenset[str]) -> dict[str, str] | None:
    """Return what a file says by default, nothing if it is absent, None if botocore has to say."""
    try:
        with open(os.path.expanduser(path), encoding="utf-8") as file:
            text = file.read(_MOST_READ)
    except FileNotFoundError:
        # Its name may be made of other variables.
        return None if "$" in path else {}
    except (OSError, UnicodeDecodeError):
        return None
    return None if len(text) == _MOST_READ else _parsed(text, known)


def _parsed(text: str, known: frozenset[str]) -> dict[str, str] | None:
    found: dict[str, str] = {}
    sections = {""}
    section = ""
    for line in text.splitlines():
        begun = _SECTION.fullmatch(line)
        setting = _SETTING.fullmatch(line.rstrip())
        if begun:
            section = begun[1]
            # Some names stand for others, and none may be there twice.
            if section in sections or (section != _DEFAULT and _DEFAULT in section.lower()):
                return None
            sections.add(section)
        elif not line.strip() or line.startswith(("#", ";")) or section not in {"", _DEFAULT}:
            continue
        elif not section or not setting or setting[1] not in known or setting[1] in found:
            return None
        else:
            found[setting[1]] = setting[2]
    return found
