"""What is printed with `--json` when a command fails."""

from __future__ import annotations

from typing import Annotated, TypedDict


class FailureObject(TypedDict):
    """What went wrong."""

    kind: Annotated[str, "name of its class in `modeldrop.errors`"]
    message: Annotated[str, "what failed, on what, and why"]
    hint: Annotated[str, "what to do next; may be empty"]
    exit_code: Annotated[int, "the program's exit code"]
    detail: Annotated[dict[str, object], "the same facts for programs, by kind"]


class ErrorObject(TypedDict):
    """Any command that fails, on stderr, if it was given `--json`."""

    error: Annotated[FailureObject, "what went wrong"]
