"""What a home writes down for itself: its records in docs/format.md, and their fields.

None of them is the truth about the backend. Those are in `records`.
"""

from __future__ import annotations

from typing import ClassVar

from modeldrop.form import Record
from modeldrop.records import Head


class HomeRecord(Record):
    """`home.json`: which home this is, and of which machine and backend."""

    kind: ClassVar[str] = "home"
    home: str
    repository: str
    machine: str
    inode: int
    created_at: str
    created_by: str
    needs: str


class Probe(Record):
    """`backend.json`: whether create-if-absent held at the backend when it was raced."""

    kind: ClassVar[str] = "probe"
    url: str
    endpoint: str | None
    holds: bool
    single_writer: bool
    racers: int
    rounds: int
    most_winners: int
    probed_at: str
    probed_with: str


class Counter(Record):
    """`refs/<experiment>`: the last version that this home has seen; a hint, never the truth."""

    kind: ClassVar[str] = "counter"
    counts: ClassVar[str] = "version"
    experiment: str
    version: int
    repository: str

    @property
    def name(self) -> str:
        """What it is named by: the experiment."""
        return self.experiment

    @property
    def number(self) -> int:
        """How far it has counted."""
        return self.version


class MoveCounter(Record):
    """`refs/<experiment>@<alias>`: the last move of it that this home has seen; a hint."""

    kind: ClassVar[str] = "move-counter"
    counts: ClassVar[str] = "move"
    experiment: str
    alias: str
    move: int
    repository: str

    @property
    def name(self) -> str:
        """What it is named by: `churn@champion`."""
        return f"{self.experiment}@{self.alias}"

    @property
    def number(self) -> int:
        """How far it has counted."""
        return self.move


class DeploymentCounter(Record):
    """`refs/<experiment>+<target>`: the last deployment that this home has seen; a hint."""

    kind: ClassVar[str] = "deployment-counter"
    counts: ClassVar[str] = "deployment"
    experiment: str
    target: str
    deployment: int
    repository: str

    @property
    def name(self) -> str:
        """What it is named by: `churn+production`."""
        return f"{self.experiment}+{self.target}"

    @property
    def number(self) -> int:
        """How far it has counted."""
        return self.deployment


class PushedRecord(Record):
    """`pushed.json`: how far the own journal was shared; a hint."""

    kind: ClassVar[str] = "pushed"
    home: str
    seq: int
    start: int
    offset: int
    sha256: str

    @property
    def head(self) -> Head:
        """The last line that was shared."""
        return Head(self.seq, self.start, self.offset, self.sha256)


class FetchedRecord(Record):
    """`journals/<home>.json`: how far another home's journal was fetched."""

    kind: ClassVar[str] = "fetched"
    home: str
    host: str
    seq: int
    start: int
    offset: int
    sha256: str
    segment: int  # the number of the first line of the last segment
    begins: int  # where that segment begins

    @property
    def head(self) -> Head:
        """The last line that was fetched."""
        return Head(self.seq, self.start, self.offset, self.sha256)


class FetchedAt(Record):
    """`service/fetched.json`: when other homes' journals were fetched, all of them."""

    kind: ClassVar[str] = "fetched-at"
    fetched_at: str


class VersionWanted(Record):
    """The first line of a file in `errands/<experiment>/`: what is to be registered for another."""

    kind: ClassVar[str] = "errand"
    indent: ClassVar[int | None] = None
    request: str
    user: str
    experiment: str
    run: str
    revision: int
    artifact: str
    sha256: str
    size: int
    nonce: str | None
    by: str
    description: str
    until: int
    """Until when it may be done, in seconds since this machine was started."""


class Intent(Record):
    """A line of `intents/<request>.jsonl`: what a request was about to append when it began."""

    kind: ClassVar[str] = "intent"
    indent: ClassVar[int | None] = None
    request: str
    sequence: str
    owner: str
    starts_at: int
    journal_seq: int
    journal_offset: int
    user: str
    begun_at: str
