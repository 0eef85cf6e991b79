"""What a valid name is: run GUIDs, experiments, artifacts' paths; and how to show a bad one."""

from __future__ import annotations

import re
import uuid
from typing import Final

from modeldrop.errors import InvalidName

# An experiment, an alias, a target. As docs/format.md says, MUST match.
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_HEX32: Final = re.compile(r"[0-9a-f]{32}")
_GUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# A prefix that may stand for a GUID in a reference: hex digits, with the dashes where they belong.
_PREFIX: Final = re.compile(r"[0-9a-f-]{4,36}")

MARKER: Final = "_SUCCESS"
RECEIPT: Final = ".modeldrop-receipt.json"
# What the run says of itself; read, never stored as a model.
RUN_FILES: Final = frozenset({"run.json", "run.toml", "run.yaml", "run.yml"})
WHOLE_RUN: Final = "."
# No alias: it would say that an experiment's newest version is another one.
LATEST: Final = "latest"


def new_guid() -> str:
    """Return a new random run GUID in its canonical form."""
    return str(uuid.uuid4())


def parse_guid(text: str) -> str | None:
    """Return the canonical lower-case 8-4-4-4-12 form, or None if it is no GUID.

    32 hex digits, braces and upper case are normalised; nothing else is.
    """
    bare = text.lower()
    if bare.startswith("{") and bare.endswith("}"):
        bare = bare[1:-1]
    if _GUID.fullmatch(bare):
        return bare
    if _HEX32.fullmatch(bare):
        return f"{bare[:8]}-{bare[8:12]}-{bare[12:16]}-{bare[16:20]}-{bare[20:]}"
    return None


def check_guid(text: str) -> str:
    """Return the canonical form of a GUID.

    Raises:
        InvalidName: it is no GUID.
    """
    guid = parse_guid(text)
    if guid is None:
        message = f"{printable(text)!r} is no run GUID"
        raise InvalidName(
            message,
            hint="a run GUID looks like 3f2b8c1e-…: `modeldrop run new` makes one",
        )
    return guid


def parse_guid_prefix(text: str) -> str | None:
    """Return the canonical spelling of what may be the start of a GUID (4 digits or more)."""
    bare = text.lower()
    if not _PREFIX.fullmatch(bare):
        return None
    digits = bare.replace("-", "")
    parts = [digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]]
    canonical = "-".join(part for part in parts if part)
    # A dash in another place than a GUID's is no prefix of one.
    if len(digits) < 4 or (bare.rstrip("-") not in (canonical, digits)):  # noqa: PLR2004 - "4 digits or more"
        return None
    return canonical


def check_experiment(text: str) -> str:
    """Return the experiment's name, unchanged.

    Raises:
        InvalidName: it doesn't match `[A-Za-z0-9][A-Za-z0-9._-]{0,99}`, or reads as a GUID.
    """
    if _NAME.fullmatch(text) and parse_guid(text) is None:
        return text
    message = f"{printable(text)!r} is no valid experiment name"
    raise InvalidName(
        message,
        hint="use 1 to 100 of A-Z a-z 0-9 . _ - with a letter or digit first, and no GUID",
    )


def is_experiment(text: str) -> bool:
    """Return whether `check_experiment` would accept it."""
    return bool(_NAME.fullmatch(text)) and parse_guid(text) is None


def check_alias(text: str) -> str:
    """Return the alias's name, unchanged.

    Raises:
        InvalidName: git would not take it for a branch, or it is reserved.
    """
    why = _refuse_alias(text)
    if why is None:
        return text
    message = f"{printable(text)!r} is no valid alias: {why[0]}"
    raise InvalidName(message, hint=why[1])


def check_target(text: str) -> str:
    """Return the target's name, unchanged; the rules are those of aliases.

    Raises:
        InvalidName: git would not take it for a branch, or it is reserved.
    """
    why = _refuse_alias(text)
    if why is None:
        return text
    message = f"{printable(text)!r} is no valid name of a target: {why[0]}"
    raise InvalidName(message, hint=why[1])


def is_alias(text: str) -> bool:
    """Return whether `check_alias` would accept it."""
    return _refuse_alias(text) is None


def _refuse_alias(text: str) -> tuple[str, str] | None:
    """Return why a name can't be an alias's, and what to do; None if it can."""
    if not _NAME.fullmatch(text):
        hint = "use 1 to 100 of A-Z a-z 0-9 . _ - with a letter or digit first"
        return "it has other characters than it may have, none, or too many", hint
    if ".." in text or text.endswith((".", ".lock")):
        return "git would refuse it", "leave out `..`, and `.` or `.lock` at its end"
    if text.lower() == LATEST:
        return "it is reserved", "an experiment's name alone is its newest version: `churn`"
    if text.isdigit():
        return "it would be read as a version's number", "have a letter in it"
    return None


def check_text(what: str, text: str) -> str:
    """Return a text from outside, unchanged, if it can be written down.

    Raises:
        InvalidName: it is not UTF-8; `what` names it.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        message = f"the {what} is not valid UTF-8: {printable(text)}"
        raise InvalidName(message, hint="give it in UTF-8") from None
    return text


def refuse_component(name: str) -> str | None:
    """Return why one component of a path can't be stored, or None if it can.

    Names come from `os.scandir` with surrogate escapes for bytes that are not UTF-8.
    """
    # Nearly every name; a manifest of 10,000 files is checked name by name.
    if name.isprintable() and "\\" not in name:
        return None
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if any(_is_control(char) for char in name):
        return "its name has a control character"
    if "\\" in name:
        # Azure Blob turns a backslash into a slash: two names would become one.
        return "its name has a backslash"
    return None


def is_sha256(text: str) -> bool:
    """Return whether a text is a sha256 as records spell it: 64 digits, in lower case."""
    return _SHA256.fullmatch(text) is not None


def refuse_path(path: str) -> str | None:
    """Return why a relative path can't be in a record, or None if it can."""
    for component in path.split("/"):
        if component in {"", ".", ".."}:
            return "it isn't relative, or leads elsewhere"
        reason = refuse_component(component)
        if reason:
            return reason
    return None


def is_artifact_name(name: str) -> bool:
    """Return whether a top-level entry of a run counts as an artifact."""
    return name not in RUN_FILES and name not in {MARKER, RECEIPT}


def printable(text: str) -> str:
    """Return the text with every character escaped that could drive a terminal or break a line."""
    # Nearly every text: nothing that is to be escaped counts as printable.
    if text.isprintable():
        return text
    return "".join(
        char.encode("unicode_escape").decode("ascii")
        if _is_control(char)
        else _escape_surrogate(char)
        for char in text
    )


def _escape_surrogate(char: str) -> str:
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:  # noqa: PLR2004 - a byte that os.fsdecode could not decode
        return f"\\x{code - 0xDC00:02x}"
    if 0xD800 <= code <= 0xDFFF:  # noqa: PLR2004 - any other lone surrogate
        return f"\\u{code:04x}"
    return char


def _is_control(char: str) -> bool:
    code = ord(char)
    return (
        code < 0x20  # noqa: PLR2004 - C0
        or 0x7F <= code < 0xA0  # noqa: PLR2004 - DEL and C1
        or char in "\u2028\u2029\u200e\u200f\u061c"  # line separators, direction marks
        or 0x202A <= code <= 0x202E  # noqa: PLR2004 - direction overrides
        or 0x2066 <= code <= 0x2069  # noqa: PLR2004 - direction isolates
    )
