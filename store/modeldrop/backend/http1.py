"""HTTP/1.1 as object stores speak it: the head of a request, and the head of an answer.

The library's own client reads the head of each answer as if it were an e-mail, which takes longer
than all else that there is to a small request, and is a tenth of a second to load with what it
needs. What is unusual here is an error: nothing is guessed, and a connection on which something
unusual came is never used again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from modeldrop.structs import Frozen

MOST_HEAD: Final = 1 << 16
"""How many bytes the head of an answer may have."""

_END: Final = re.compile(rb"\n\r?\n")
_HEAD: Final = re.compile(
    r"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n]*)?\r?\n"
    r"((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n]*\r?\n)*)\r?\n"
)
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")
_WITH_BODY: Final = frozenset({"PUT", "POST"})
_BODILESS: Final = frozenset({204, 304})
_CONTINUE: Final = 200
_TO_THE_END: Final = 2**63


class BadAnswer(Exception):
    """What came is no answer in HTTP/1.1."""


class Head(Frozen):
    """The head of an answer; names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    modern: bool = True
    """Whether it came in HTTP/1.1, not 1.0."""

    @property
    def is_last(self) -> bool:
        """Whether the answer itself is to come, and not another head."""
        return self.status >= _CONTINUE

    @property
    def chunked(self) -> bool:
        """Whether the body comes in chunks that each say how long they are.

        Raises:
            BadAnswer: it comes in a way that isn't known here, or in two at once.
        """
        coding = self.headers.get("transfer-encoding")
        if coding is None:
            return False
        if coding.lower() != "chunked" or "content-length" in self.headers:
            message = "the answer's body comes in a way that isn't known here"
            raise BadAnswer(message)
        return True

    @property
    def keeps_open(self) -> bool:
        """Whether the connection may be used again after the answer."""
        said = {each.strip().lower() for each in self.headers.get("connection", "").split(",")}
        return "close" not in said if self.modern else "keep-alive" in said

    def size(self, method: str) -> int | None:
        """Return how many bytes follow, or None if it is all until the connection ends.

        Raises:
            BadAnswer: it says something that is no number.
        """
        if method == "HEAD" or self.status in _BODILESS:
            return 0
        said = self.headers.get("content-length")
        if said is None:
            return None
        if not (said.isascii() and said.isdecimal()):
            message = "the answer's length is no number"
            raise BadAnswer(message)
        return int(said)


def request(method: str, path: str, headers: Mapping[str, str], size: int) -> bytes:
    """Return the head of a request with a body of `size` bytes; `headers` name the host.

    Raises:
        ValueError: something can't be sent as it is. The text doesn't show it.
    """
    lines = [f"{method} {path} HTTP/1.1", "accept-encoding: identity"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if size or method in _WITH_BODY:
        lines.append(f"content-length: {size}")
    text = "\r\n".join((*lines, "", ""))
    ends = len(lines) + 1
    if not text.isascii() or "\0" in text or (text.count("\r"), text.count("\n")) != (ends, ends):
        message = "a header can't be sent: do the credentials contain a line's end?"
        raise ValueError(message)
    return text.encode()


def end_of_head(data: bytearray, start: int, end: int) -> int:
    """Return where the head that begins at `start` ends, or -1 if it doesn't before `end`."""
    found = _END.search(data, start, end)
    return -1 if found is None else found.end()


def head(data: bytes | bytearray) -> Head:
    """Return what a whole head says.

    Raises:
        BadAnswer: it isn't one.
    """
    text = data.decode("latin-1")
    found = _HEAD.fullmatch(text)
    if found is None:
        message = "what came is no answer in HTTP/1.1"
        raise BadAnswer(message)
    headers: dict[str, str] = {}
    for line in found[3].split("\n")[:-1]:
        name, _, value = line.partition(":")
        name, value = name.lower(), value.strip()
        # Two lengths that differ are then no number.
        before = headers.get(name)
        headers[name] = value if before is None or before == value else f"{before}, {value}"
    return Head(int(found[2]), headers, modern=found[1] == "1")


def chunk_size(line: bytes) -> int:
    """Return how many bytes the chunk has that begins with this line.

    Raises:
        BadAnswer: the line says nothing of the kind.
    """
    found = _CHUNK.fullmatch(line.rstrip(b"\r\n"))
    if found is None:
        message = "a chunk of the answer has no length"
        raise BadAnswer(message)
    return int(found[1], 16)
