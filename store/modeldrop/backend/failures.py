"""What a client library's exception means, told without importing any client library.

The same event has many faces: s3fs turns botocore's errors into `OSError`s by a table of its own
and keeps the original as the cause, adlfs lets some of azure-core's through and wraps others in
`RuntimeError`, and each server has its own codes. So the whole chain of causes is looked at, for
error codes first, then for HTTP statuses, then for names of classes.

What comes out is scrubbed, and raised `from None`: the originals carry request URLs with their
signatures, and a traceback would show them.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Final

from modeldrop.errors import (
    BackendBusy,
    BackendError,
    BackendRefused,
    BackendUnreachable,
    BucketNotFound,
    Detail,
)
from modeldrop.redaction import scrub


class Kind(enum.Enum):
    """What happened."""

    ABSENT = enum.auto()  # the server named the key as missing
    NOT_FOUND = enum.auto()  # something is missing: the key or the bucket
    BUCKET = enum.auto()  # the bucket or container is missing
    EXISTS = enum.auto()  # create-if-absent found it there
    REFUSED = enum.auto()  # credentials or permissions
    UNREACHABLE = enum.auto()  # no answer
    UNTRUSTED = enum.auto()  # a certificate that is another's, or of nobody known
    BUSY = enum.auto()  # the server answered that it can't just now
    OTHER = enum.auto()


_BY_CODE: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(("NoSuchKey", "BlobNotFound", "PathNotFound"), Kind.ABSENT),
    **dict.fromkeys(
        ("NoSuchBucket", "ContainerNotFound", "ContainerBeingDeleted", "FilesystemNotFound"),
        Kind.BUCKET,
    ),
    **dict.fromkeys(("PreconditionFailed", "BlobAlreadyExists"), Kind.EXISTS),
    **dict.fromkeys(
        (
            *("AccessDenied", "AllAccessDisabled", "AccountProblem", "ExpiredToken"),
            *("InvalidAccessKeyId", "InvalidSecurity", "InvalidToken", "RequestExpired"),
            *("SignatureDoesNotMatch", "RequestTimeTooSkewed", "TokenRefreshRequired"),
            *("AuthenticationFailed", "AuthorizationFailure", "AuthorizationPermissionMismatch"),
            *("NoAuthenticationInformation", "InvalidAuthenticationInfo", "AccountIsDisabled"),
            *("InsufficientAccountPermissions", "PublicAccessNotPermitted", "Unauthorized"),
        ),
        Kind.REFUSED,
    ),
    **dict.fromkeys(
        (
            *("SlowDown", "ServiceUnavailable", "ServerBusy", "InternalError"),
            # Google's, and some of them come as a 403.
            *("OperationTimedOut", "rateLimitExceeded", "userRateLimitExceeded", "backendError"),
        ),
        Kind.BUSY,
    ),
    # A part of an upload that is gone says nothing of the key.
    **dict.fromkeys(("NoSuchUpload", "InvalidBlockList"), Kind.OTHER),
}
_BY_STATUS: Final[Mapping[int, Kind]] = {
    401: Kind.REFUSED,
    403: Kind.REFUSED,
    404: Kind.NOT_FOUND,
    412: Kind.EXISTS,
    **dict.fromkeys((429, 500, 502, 503, 504), Kind.BUSY),
}
_BY_CLASS: Final[Mapping[str, Kind]] = {
    **dict.fromkeys(
        (
            *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError"),
            *("ClientAuthenticationError", "CredentialUnavailableError", "ProfileNotFound"),
            *("TokenRetrievalError", "SSOError", "RefreshError", "DefaultCredentialsError"),
            *("PermissionDenied", "SFTPPermissionDenied", "PermissionError"),
        ),
        Kind.REFUSED,
    ),
    **dict.fromkeys(
        (
            *("EndpointConnectionError", "ConnectionClosedError", "HTTPClientError"),
            *("NoAnswer", "ServiceRequestError", "ServiceResponseError", "ClientConnectionError"),
            *("ClientPayloadError", "IncompleteRead", "IncompleteReadError", "ConnectionError"),
            *("TimeoutError", "FSTimeoutError", "gaierror", "SSLError", "TransportError"),
            # asyncssh's: `DisconnectError` is whatever ended a connection.
            *("DisconnectError", "ChannelOpenError", "SFTPConnectionLost", "SFTPNoConnection"),
        ),
        Kind.UNREACHABLE,
    ),
    "FileExistsError": Kind.EXISTS,
    "SFTPFileAlreadyExists": Kind.EXISTS,
    "FileNotFoundError": Kind.NOT_FOUND,
    **dict.fromkeys(("ResourceNotFoundError", "SFTPNoSuchFile", "SFTPNoSuchPath"), Kind.NOT_FOUND),
}

_UNTRUSTED: Final = "SSLCertVerificationError"


def kind_of(error: BaseException) -> Kind:
    """Return what an exception of a client library means."""
    chain = list(_chain(error))
    for code in (code for each in chain for code in _codes(each)):
        if code in _BY_CODE:
            return _BY_CODE[code]
    for status in (status for each in chain for status in _statuses(each)):
        if status in _BY_STATUS:
            return _BY_STATUS[status]
    # The cause, where all around it are connections that failed.
    if any(cls.__name__ == _UNTRUSTED for each in chain for cls in type(each).__mro__):
        return Kind.UNTRUSTED
    for each in chain:
        for cls in type(each).__mro__:
            if cls.__name__ in _BY_CLASS:
                return _BY_CLASS[cls.__name__]
    return Kind.OTHER


def status_of(error: BaseException) -> int | None:
    """Return the HTTP status that an exception of a client library carries, if any."""
    return next((status for each in _chain(error) for status in _statuses(each)), None)


def codes_of(error: BaseException) -> list[str]:
    """Return the error codes that an exception of a client library carries."""
    return [code for each in _chain(error) for code in _codes(each)]


def is_transient(error: BaseException) -> bool:
    """Return whether the same request may well succeed a moment later."""
    return kind_of(error) in {Kind.UNREACHABLE, Kind.BUSY}


def failed(
    error: BaseException, doing: str, place: str, credentials: str, endpoint: str | None
) -> BackendError:
    """Return the error to raise, from None, for what went wrong while `doing` something."""
    kind = kind_of(error)
    why = describe(error)
    detail: Detail = {"operation": doing, "place": place}
    codes = codes_of(error)
    if codes:
        detail["code"] = scrub(codes[0])
    if kind is Kind.UNREACHABLE:
        where = f" at {endpoint}" if endpoint else ""
        return BackendUnreachable(
            f"can't {doing} {place}: no answer{where}: {why}",
            hint="check the network and the endpoint; doing it again is safe",
            detail=detail,
        )
    if kind is Kind.UNTRUSTED:
        return BackendUnreachable(
            f"can't {doing} {place}: the certificate of {endpoint or 'the store'} "
            f"isn't to be trusted: {why}",
            hint="see that the address is the store's, by a name in its certificate; "
            "if it is signed by a CA of your own, name that one's PEM file (S3: AWS_CA_BUNDLE)",
            detail=detail,
        )
    if kind is Kind.BUSY:
        return BackendBusy(
            f"can't {doing} {place}: the store is too busy just now: {why}",
            hint="doing it again later is safe",
            detail=detail,
        )
    if kind is Kind.REFUSED:
        return BackendRefused(
            f"can't {doing} {place}: refused: {why}",
            hint=f"{credentials}; reading, writing, listing and deleting must all be allowed",
            detail=detail,
        )
    if kind is Kind.BUCKET:
        return no_bucket(place)
    return BackendError(
        f"can't {doing} {place}: {why}",
        hint="doing it again is safe; `modeldrop verify` looks at what is stored",
        detail=detail,
    )


def no_bucket(place: str) -> BucketNotFound:
    """Return the error that says that the bucket or container of a place isn't there."""
    return BucketNotFound(
        f"the bucket or container of {place} doesn't exist",
        hint="make it with the store's own tools, or correct the backend's URL",
        detail={"place": place},
    )


def describe(error: BaseException) -> str:
    """Return an exception's class and text, short, on one line, without secrets."""
    name = type(error).__name__
    try:
        text = str(error).strip().partition("\n")[0]
    except Exception:  # noqa: BLE001 - while one error is told, another mustn't take its place
        text = ""
    # The name stays as it is: `NoCredentialsError: …` isn't the value of a credential.
    return f"{name}: {scrub(text)}" if text else name


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        seen.add(id(at))
        yield at
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)


def _codes(error: BaseException) -> Iterator[str]:
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):  # botocore
        found = response.get("Error")
        if isinstance(found, Mapping):
            yield str(found.get("Code", ""))
    code = getattr(error, "error_code", None)  # azure-core; an enum of strings or a string
    if code is not None:
        yield str(getattr(code, "value", code))


def _statuses(error: BaseException) -> Iterator[int]:
    response = getattr(error, "response", None)
    if isinstance(response, Mapping):
        about = response.get("ResponseMetadata")
        if isinstance(about, Mapping) and isinstance(about.get("HTTPStatusCode"), int):
            yield about["HTTPStatusCode"]
    for holder in (error, response):
        for name in ("status_code", "status", "code"):
            status = getattr(holder, name, None)
            if isinstance(status, int):
                yield status
                # aiohttp warns whoever asks for another of them.
                break
