"""What `init` and `clone` print with `--json`."""

from __future__ import annotations

from typing import Annotated, TypedDict

from modeldrop_cli.objects.sharing import FetchedJournalObject


class InitObject(TypedDict):
    """`init`: the home that is there now."""

    home: Annotated[str, "path of the home"]
    created: Annotated[bool, "whether it was made just now"]
    backend: Annotated[str, "URL of the backend"]
    staging: Annotated[str, "path of the staging folder"]
    repository: Annotated[str, "id of the repository at the backend"]
    create_if_absent_holds: Annotated[bool, "whether racing writers had one winner"]
    single_writer: Annotated[bool, "whether this home alone may write to the backend"]


class CloneObject(TypedDict):
    """`clone`: the home that was made."""

    home: Annotated[str, "path of the home"]
    backend: Annotated[str, "URL of the backend"]
    staging: Annotated[str, "path of the staging folder"]
    repository: Annotated[str, "id of the repository at the backend"]
    journals: Annotated[list[FetchedJournalObject], "the journals of all other homes"]
