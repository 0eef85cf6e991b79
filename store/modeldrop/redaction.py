"""Secrets, kept out of everything that is written.

Whatever is written for people or programs and was not composed by us alone goes through here: logs,
traces, errors. Known secrets are hidden by their value, in every form in which they travel: those
of the environment, and those that a store's client has found elsewhere (a profile, a role). What
libraries say is also searched for what looks like a secret.

A URL or an option that holds a secret doesn't get so far: see `backend.urls`.
"""

from __future__ import annotations

import base64
import functools
import logging
import os
import re
import threading
import traceback
from typing import Final
from urllib.parse import quote, quote_plus, unquote

from modeldrop.errors import ModeldropError
from modeldrop.names import printable

_HIDDEN: Final = "[hidden]"
_MOST_TEXT: Final = 300
_MOST_READ: Final = 8192

# The query of a URL, whole: signatures, tokens and ids under a dozen names.
_QUERY: Final = (re.compile(r"(\b\w+://[^\s?'\"<>]*)\?[^\s'\"<>]*"), rf"\1?{_HIDDEN}")
_SHAPES: Final = (
    (re.compile(r"(\b\w+://)[^/\s@'\"]*@"), rf"\1{_HIDDEN}@"),
    (
        re.compile(
            r"(?i)\b((?:sig|[\w-]*(?:signature|secret|password|token|credential|accountkey"
            r"|account_key|accesskey|access_key|authorization|sharedkey)[\w-]*)"
            r"['\"]?\s*[=:]\s*['\"]?)[^\s'\",;&<>]+"
        ),
        rf"\1{_HIDDEN}",
    ),
    # Azure repeats the signature it got, and what it would have signed.
    (re.compile(r"(?i)(MAC signature found in the HTTP request ')[^']*"), rf"\1{_HIDDEN}"),
    (re.compile(r"(?is)(string to sign:?).*"), rf"\1 {_HIDDEN}"),
    (re.compile(r"(?i)\b(Basic|Bearer|SharedKey|AWS4-HMAC-SHA256)\s+\S+"), rf"\1 {_HIDDEN}"),
    (re.compile(r"\b(AKIA|ASIA)[A-Z0-9]{12,}\b"), _HIDDEN),
)
# Keys in base64: long, and mixed as no digest, name or word of ours is; but paths may be.
_KEY: Final = (
    re.compile(
        r"(?<![A-Za-z0-9+/])(?=[A-Za-z0-9+/]*[a-z])(?=[A-Za-z0-9+/]*[A-Z])"
        r"[A-Za-z0-9+/]{38,}={0,2}"
    ),
    _HIDDEN,
)
_FRAME: Final = '  File "'

_STORES: Final = ("AWS", "AZURE", "GOOGLE", "GCS", "FSSPEC")
_SECRET_VARIABLE: Final = re.compile(r"(?i)(KEY|SECRET|TOKEN|PASSWORD|CONNECTION_STRING)")
# They name a file or an id, and hide nothing.
_NAMES_A_PLACE: Final = ("_FILE", "_FILENAME", "_URI", "_PATH")
_SHORTEST: Final = 6
# In a connection string and in a shared access signature.
_PARTS: Final = re.compile(r"(?i)(?:^|;)[^=;]*(?:key|signature)=([^;]*)|(?:^|[?&;=])sig=([^&;]*)")

_told: set[str] = set()
_telling: Final = threading.Lock()


def remember(*secrets: str | None) -> None:
    """Hide these from now on, wherever they turn up in this process."""
    with _telling:
        _told.update(each for each in secrets if each and len(each) >= _SHORTEST)


# Asked of every variable for each line of a log.
@functools.lru_cache(maxsize=1024)
def is_secret_variable(name: str) -> bool:
    """Return whether an environment variable is a credential of a store: a secret, or its id."""
    return (
        name.upper().startswith(_STORES)
        and _SECRET_VARIABLE.search(name) is not None
        and not name.upper().endswith(_NAMES_A_PLACE)
    )


def hide(text: str) -> str:
    """Return a text of ours without any secret that is known to this process."""
    with _telling:
        known = frozenset(_told)
    values = frozenset(
        os.environ.get(name, "")
        for name in os.environ
        # An id is none, and may well be a word: `minioadmin`.
        if is_secret_variable(name) and not name.endswith("_ID")
    )
    for form in _forms(known | values):
        if form in text:
            text = text.replace(form, _HIDDEN)
    return text


def scrub(text: str) -> str:
    """Return a library's text, short and on one line, without anything that looks like a secret."""
    # An exception may carry megabytes.
    text = hide(text)[:_MOST_READ]
    for pattern, instead in (_QUERY, *_SHAPES, _KEY):
        text = pattern.sub(instead, text)
    text = printable(" ".join(text.split()))
    return text if len(text) <= _MOST_TEXT else f"{text[:_MOST_TEXT]}…"


def told(error: BaseException) -> str:
    """Return what an error says, fit to be shown: ours as it is, another's scrubbed."""
    # What the operating system says names a file; clients of stores make such errors without one.
    is_ours = isinstance(error, ModeldropError)
    if is_ours or (isinstance(error, OSError) and error.filename):
        return printable(hide(str(error)))
    return scrub(str(error))


def trace(error: BaseException) -> list[str]:
    """Return the lines of an error's trace, fit to be shown."""
    # Over line ends: what is to be hidden may have some.
    text = hide("".join(traceback.format_exception(error)).rstrip())
    lines = []
    for line in text.split("\n"):
        shown = line
        if not line.startswith(_FRAME):
            for pattern, instead in (_QUERY, *_SHAPES, _KEY):
                shown = pattern.sub(instead, shown)
        lines.append(printable(shown))
    return lines


def redact_record(record: logging.LogRecord) -> bool:
    """Redact what a library logs by a handler of its own: a filter for its logger."""
    record.msg, record.args = hide(record.getMessage()), None
    if record.exc_info and record.exc_info[1] is not None:
        record.exc_text = "\n".join(trace(record.exc_info[1]))
    return True


@functools.lru_cache(maxsize=4)
def _forms(secrets: frozenset[str]) -> tuple[str, ...]:
    """Return every form in which secrets may be written, the longest first."""
    every: set[str] = set()
    for secret in secrets:
        # A connection string is also taken apart: its key may turn up alone.
        parts = [part for found in _PARTS.finditer(secret) for part in found.groups() if part]
        for part in (secret, *parts):
            for value in {part, part.strip(), unquote(part)}:
                if len(value) >= _SHORTEST:
                    every |= _forms_of(value)
    return tuple(sorted(every, key=len, reverse=True))


def _forms_of(value: str) -> set[str]:
    raw = value.encode("utf-8", "surrogateescape")
    return {
        value,
        printable(value),
        repr(value)[1:-1],
        quote(raw),
        quote(raw, safe=""),
        quote_plus(raw),
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
    }
