"""What was checked and what was found: the report of `verify`."""

from __future__ import annotations

from collections.abc import Callable

from modeldrop.form import Json
from modeldrop.names import printable
from modeldrop.signatures import Judged
from modeldrop.structs import Frozen, Struct, field
from modeldrop.verify.evidence import SignedJournal

Progress = Callable[[int], None]
"""Called with the number of bytes that were just read."""


class Finding(Frozen):
    """One thing that is not what was acknowledged."""

    kind: str
    """`journal`, `home`, `repository`, `revision`, `version`, `alias`, `deployment`, `target`,
    `retirement`, `collection`, `signature` or `file`."""
    where: str
    what: str

    def as_json(self) -> dict[str, Json]:
        """Return it as JSON."""
        return {"kind": self.kind, "where": self.where, "what": self.what}


class Report(Struct):
    """What was checked and what was found."""

    deep: bool
    findings: list[Finding] = field(default_factory=list)
    checked: dict[str, int] = field(default_factory=dict)
    journals: list[SignedJournal] = field(default_factory=list)
    """Whether each home's journal is signed; empty where one artifact alone was checked."""
    signatures: list[Judged] = field(default_factory=list)
    """What the signatures of the artifact are worth, where that was asked."""

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings

    def judge(self, name: str, signatures: list[Judged]) -> None:
        """Note what the signatures of a version are worth: one of a known signer is needed."""
        self.signatures = signatures
        self.count("signatures", len(signatures))
        for each in signatures:
            if each.trouble:
                self.add("signature", name, f"{each.digest}: {each.trouble}")
        if not any(each.signer for each in signatures):
            self.add("signature", name, "none of its signatures is by a key that is trusted here")

    def count(self, what: str, number: int = 1) -> None:
        """Note that so many more were checked."""
        self.checked[what] = self.checked.get(what, 0) + number

    def count_if_any(self, what: str, number: int) -> None:
        """Note that so many were checked, and nothing where there are none."""
        if number:
            self.count(what, number)

    def add(self, kind: str, where: str, what: str) -> None:
        """Note what is off."""
        self.findings.append(Finding(kind, printable(where), printable(what)))

    def as_json(self) -> dict[str, Json]:
        """Return the report as JSON."""
        return {
            "ok": self.ok,
            "deep": self.deep,
            "checked": {**self.checked},
            "findings": [each.as_json() for each in self.findings],
            "journals": [each.as_json() for each in self.journals],
            "signatures": [each.as_json() for each in self.signatures],
        }
