"""What the environment says of a bucket is what botocore would say; it is asked for all else."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from modeldrop.backend import environment, session
from modeldrop.backend.access import Access, Asked, asked
from modeldrop.backend.s3 import _arguments

KEYS: Final = {"AWS_ACCESS_KEY_ID": "ACCESS", "AWS_SECRET_ACCESS_KEY": "the-secret-of-a-test"}
REGION: Final = {"AWS_DEFAULT_REGION": "eu-west-1"}
HERE: Final = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9000"}
KEYS_FILE: Final = "[default]\naws_access_key_id = FILED\naws_secret_access_key=filed-secret\n"

Settings = Mapping[str, str]
Options = dict[str, object]


def set_up(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """Have the environment say this, and the files in it."""
    for name, value in settings.items():
        if name in {"config", "credentials", "models"}:
            place = Path(os.environ["HOME"], ".aws", name)
            place.parent.mkdir(exist_ok=True)
            place.write_text(value)
        else:
            monkeypatch.setenv(name, value)


def wanted(options: Options) -> Asked:
    found = asked(_arguments(options))
    assert found is not None
    return found


def told(access: Access | None) -> dict[str, Any] | None:
    if access is None:
        return None
    fields = {name: getattr(access, name) for name in access.__struct_fields__}
    return {**fields, "keys": access.keys()}


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, {**KEYS, **REGION}),
        ({}, {**KEYS, **REGION, "AWS_SESSION_TOKEN": "a-token"}),
        ({}, {**KEYS, **REGION, **HERE}),
        ({}, {**KEYS, **HERE, "AWS_DEFAULT_REGION": "auto"}),
        ({}, {**KEYS, **REGION, **HERE, "AWS_ENDPOINT_URL_S3": "https://minio.example.org:9443"}),
        ({"endpoint_url": "https://minio.example.org"}, {**KEYS, **REGION, **HERE}),
        ({"endpoint_url": "http://minio:80"}, {**KEYS, **REGION}),
        ({"region_name": "us-east-1"}, {**KEYS, **REGION}),
        ({"client_kwargs": {"region_name": "ap-south-2"}}, {**KEYS, **REGION}),
        ({"addressing_style": "path"}, {**KEYS, **REGION, **HERE}),
        ({"addressing_style": "auto"}, {**KEYS, **REGION}),
        ({"client_kwargs": {"verify": True}}, {**KEYS, **REGION, "AWS_CA_BUNDLE": "/ours"}),
        ({"client_kwargs": {"verify": "/given"}}, {**KEYS, **REGION, "AWS_CA_BUNDLE": "/ours"}),
        ({}, {**KEYS, **REGION, "AWS_CA_BUNDLE": "/ours", "REQUESTS_CA_BUNDLE": "/theirs"}),
        ({}, {**KEYS, **REGION, "REQUESTS_CA_BUNDLE": "/theirs"}),
        ({"config_kwargs": {"read_timeout": 7, "connect_timeout": 3}}, {**KEYS, **REGION}),
        ({}, {**KEYS, **REGION, "AWS_REGION": "us-west-2", "AWS_PAGER": ""}),
        ({}, {**KEYS, **REGION, "no_proxy": "example.org"}),
        ({}, {**REGION, "credentials": KEYS_FILE}),
        ({}, {**KEYS, **REGION, "credentials": KEYS_FILE}),
        ({}, {**REGION, "credentials": f"# ours\n\n{KEYS_FILE}aws_session_token = filed-token\n"}),
        ({}, {**REGION, "credentials": f"[other]\nregion = x\n{KEYS_FILE}[more]\ns3 =\n  a = b\n"}),
        ({}, {**KEYS, "config": "[default]\nregion = sa-east-1\noutput = json\n"}),
        ({}, {**KEYS, **REGION, "config": "[profile other]\nregion = sa-east-1\n"}),
    ],
)
def test_the_environment_says_what_botocore_says(
    options: Options, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, settings)
    ours = environment.find("3models-of-a-team", wanted(options))
    assert ours is not None
    assert told(ours) == told(session.find("3models-of-a-team", wanted(options)))


@pytest.mark.parametrize(
    "region",
    [
        *("us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "ca-west-1"),
        *("eu-west-1", "eu-west-3", "eu-north-1", "eu-south-2", "eu-central-1", "eu-central-2"),
        *("ap-northeast-1", "ap-southeast-5", "ap-east-1", "sa-east-1", "af-south-1"),
        *("me-south-1", "me-central-1", "il-central-1", "mx-central-1"),
    ],
)
def test_buckets_of_amazon_are_where_botocore_says(
    region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, KEYS)
    asked_for = wanted({"region_name": region})
    ours = environment.find("models", asked_for)
    assert ours is not None
    assert told(ours) == told(session.find("models", asked_for))


@pytest.mark.parametrize(
    "region",
    [
        *("us-gov-west-1", "cn-north-1", "us-iso-east-1", "us-isob-east-1", "eu-isoe-west-1"),
        *("eusc-de-east-1", "aws-global", "us-isof-south-1"),
    ],
)
def test_botocore_is_asked_where_another_partition_is(
    region: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, KEYS)
    assert environment.find("models", wanted({"region_name": region})) is None


@pytest.mark.parametrize(
    ("bucket", "options", "settings"),
    [
        ("team.models", {}, {**KEYS, **REGION}),
        ("Models", {}, {**KEYS, **REGION}),
        ("models--use1-az1--x-s3", {}, {**KEYS, **REGION}),
        ("models", {"profile": "other"}, {**KEYS, **REGION}),
        ("models", {"addressing_style": "virtual"}, {**KEYS, **REGION, **HERE}),
        ("models", {"addressing_style": "path"}, {**KEYS, **REGION}),
        ("models", {"endpoint_url": "http://minio/below"}, {**KEYS, **REGION}),
        ("models", {"endpoint_url": "http://[::1]:9000"}, {**KEYS, **REGION}),
        ("models", {"endpoint_url": "http://minio/"}, {**KEYS, **REGION}),
        ("models", {"config_kwargs": {"proxies": {"http": "http://p"}}}, {**KEYS, **REGION}),
        ("models", {}, KEYS),
        ("models", {}, REGION),
        ("models", {}, {**REGION, "AWS_ACCESS_KEY_ID": "ACCESS"}),
        ("models", {}, {**REGION, "credentials": KEYS_FILE, "AWS_SECRET_ACCESS_KEY": "half"}),
        ("models", {}, {**KEYS, **REGION, "AWS_ENDPOINT_URL": ""}),
        ("models", {}, {**KEYS, **REGION, "AWS_PROFILE": "other"}),
        ("models", {}, {**KEYS, **REGION, "AWS_SECURITY_TOKEN": "an-older-token"}),
        ("models", {}, {**KEYS, **REGION, "AWS_CREDENTIAL_EXPIRATION": "2030-01-01T00:00:00Z"}),
        ("models", {}, {**KEYS, **REGION, "AWS_USE_FIPS_ENDPOINT": "true"}),
        ("models", {}, {**KEYS, **REGION, "AWS_OF_TOMORROW": "what nobody knows yet"}),
        ("models", {}, {**KEYS, **REGION, "HTTPS_PROXY": "http://proxy:3128"}),
        ("models", {}, {**KEYS, **REGION, "all_proxy": "socks5://proxy"}),
        ("models", {}, {**KEYS, **REGION, "AWS_CONFIG_FILE": "$HOME/config"}),
        ("models", {}, {**KEYS, **REGION, "models": "more that botocore knows"}),
        (
            "models",
            {},
            {**KEYS, **REGION, "config": "[default]\ns3 =\n  addressing_style = path\n"},
        ),
        ("models", {}, {**KEYS, **REGION, "config": "[default]\nendpoint_url = http://other\n"}),
        ("models", {}, {**KEYS, **REGION, "config": "[profile default]\nregion = x\n"}),
        ("models", {}, {**KEYS, **REGION, "config": "[DEFAULT]\nregion = x\n"}),
        ("models", {}, {**KEYS, **REGION, "config": "region = x\n"}),
        ("models", {}, {**KEYS, **REGION, "config": "[default]\noutput: json\n"}),
        ("models", {}, {**KEYS, **REGION, "config": "[default]\nregion = x\n[default]\n"}),
        ("models", {}, {**KEYS, **REGION, "config": "[default]\n" + "# much\n" * 10_000}),
        ("models", {}, {**REGION, "credentials": f"{KEYS_FILE}role_arn = arn:aws:iam::1:role/a\n"}),
        ("models", {}, {**REGION, "credentials": f"{KEYS_FILE}aws_session_token = a # b\n"}),
        ("models", {}, {**REGION, "credentials": f"{KEYS_FILE}region = eu-west-3\n"}),
        ("models", {}, {**KEYS, **REGION, "credentials": f"{KEYS_FILE}endpoint_url = http://x\n"}),
    ],
)
def test_botocore_is_asked_for_what_isnt_said_in_so_many_words(
    bucket: str, options: Options, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(monkeypatch, settings)
    assert environment.find(bucket, wanted(options)) is None


def test_a_file_that_is_nobodys_to_read_is_botocores_matter(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path))
    set_up(monkeypatch, {**KEYS, **REGION})
    assert environment.find("models", wanted({})) is None
