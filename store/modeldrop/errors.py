"""What can go wrong, as one tree; each class has its exit code.

    ModeldropError                  1   another error
    ├── UsageError                  2   a call or a setting that can't be right
    │   ├── InvalidName             2   a name, GUID, path or reference that isn't valid
    │   ├── InvalidQuery            2   a search that can't be read
    │   ├── ConfigError             2   config.toml, MODELDROP_* or a URL
    │   ├── DriverMissing           2   the fsspec driver of a URL isn't installed
    │   ├── DropRefused             2   what was dropped can't be stored as it is
    │   ├── AmbiguousArtifact       2   several artifacts and none named
    │   └── NewerFormat             2   written by a later modeldrop
    ├── PartialFailure              3   some of it failed
    ├── NotFound                   10
    │   ├── HomeNotFound           10
    │   ├── RunNotFound            10
    │   ├── ArtifactNotFound       10
    │   │   └── ArtifactCollected  10   its bytes were let go, and a record says so
    │   ├── VersionNotFound        10
    │   │   └── VersionVacant      10   its number was given elsewhere, and isn't used here
    │   ├── AliasNotFound          10
    │   ├── TargetNotFound         10
    │   ├── DeploymentNotFound     10
    │   ├── MetricNotFound         10
    │   ├── SignatureNotFound      10
    │   └── KeyNotFound            10
    ├── Conflict                   11   it exists already, with other content
    │   ├── AliasMoved             11   it isn't on the version that was expected
    │   ├── VersionInUse           11   an alias is on it or it is live, so it can't be retired
    │   ├── VersionRetired         11   it is retired, so nothing is put on it
    │   ├── GateClosed             11   a target's gate doesn't let a deployment through
    │   └── NotTheWriter           11   another home alone may write to the backend
    ├── Locked                     12   somebody else holds the lock
    │   └── NotReady               12   waited for it, and the time ran out
    ├── IntegrityError             20   bytes are not what they were
    │   ├── JournalDamaged         20
    │   ├── JournalChanged         20   a shared journal was rewritten, cut or forked
    │   │   └── JournalForked      20   the own one: this home was copied or restored
    │   ├── RecordDamaged          20
    │   ├── CounterDamaged         20
    │   ├── ArtifactDamaged        20
    │   ├── SignatureWrong         20   not signed by whom it should be, or not that
    │   └── SourceChanged          20   a file changed while it was read
    ├── BackendError               30   the store failed
    │   ├── BackendUnreachable     30
    │   │   └── BackendBusy        30   it answers that it has no time just now
    │   ├── BackendRefused         30   credentials or permissions
    │   ├── BucketNotFound         30
    │   ├── ConditionNotHeld       30   create-if-absent has several winners
    │   └── OutcomeUnknown         30   it may or may not have happened
    └── Interrupted               130

A message says what failed, on what, and why; `hint` says what to do next, naming the command
where there is one. `detail` carries what a program would want (JSON types only).
"""

from __future__ import annotations

from typing import ClassVar, Final

# What a program may find in `detail`: JSON types only.
Detail = dict[str, object]

EXIT_DONE: Final = 0


class ModeldropError(Exception):
    """The root of the tree: catch this to catch all that modeldrop raises on purpose."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, *, hint: str = "", detail: Detail | None = None) -> None:
        """Keep the message, what to do next, and the facts for programs."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.detail: Detail = detail or {}

    def __str__(self) -> str:
        """Return the message, without the hint."""
        return self.message


class UsageError(ModeldropError):
    """A call, an option or a setting that can't be right, whatever the store holds."""

    exit_code = 2


class InvalidName(UsageError):
    """A name, a GUID, a path or a reference that isn't valid."""


class InvalidQuery(UsageError):
    """A search that can't be read, or asks for what there can't be; the message says where."""


class ConfigError(UsageError):
    """A setting in config.toml, in the environment or in a URL that isn't valid."""


class DriverMissing(UsageError):
    """The URL's fsspec driver isn't installed; the hint names the extra."""


class DropRefused(UsageError):
    """What was dropped can't be stored as it is; a person has to change it."""


class AmbiguousArtifact(UsageError):
    """The run has several artifacts and none was named; the message lists them."""


class NewerFormat(UsageError):
    """A record or a home was written in a later format; nothing is written to it."""


class PartialFailure(ModeldropError):
    """Some of what was asked for is done, and some isn't; the message says which."""

    exit_code = 3


class NotFound(ModeldropError):
    """What was named isn't there; the message says where it was looked for."""

    exit_code = 10


class HomeNotFound(NotFound):
    """There is no home at or above the working folder, nor in the user's folder."""


class RunNotFound(NotFound):
    """No such run, or no such revision of it, is committed at the backend."""


class ArtifactNotFound(NotFound):
    """The run has no artifact of that name; the message lists those it has."""


class ArtifactCollected(ArtifactNotFound):
    """Its bytes were let go by a recorded act; the message says when, by whom and why."""


class VersionNotFound(NotFound):
    """The experiment has no such version, or no version at all."""


class VersionVacant(VersionNotFound):
    """An import left the number vacant; the message says why."""


class AliasNotFound(NotFound):
    """The experiment has no such alias, or has it no more, or the alias has no such move."""


class TargetNotFound(NotFound):
    """There is no deployment target of that name, or it was removed."""


class DeploymentNotFound(NotFound):
    """Nothing of the experiment is deployed at the target, or there is no such deployment."""


class MetricNotFound(NotFound):
    """No version of the experiment has that metric; the message lists those that there are."""


class SignatureNotFound(NotFound):
    """The version has no signature."""


class KeyNotFound(NotFound):
    """The home has no key, or there is none of that home; the hint says how one is made."""


class Conflict(ModeldropError):
    """It exists already with other content, or the state isn't the one that was expected."""

    exit_code = 11


class AliasMoved(Conflict):
    """The alias isn't where it was expected; the message names who moved it, when and why."""


class VersionInUse(Conflict):
    """An alias is on the version, or it is live on a target; the message names them."""


class VersionRetired(Conflict):
    """The version is retired; the message says by whom, when and why."""


class GateClosed(Conflict):
    """A target's gate doesn't let this version through; the message names the gate."""


class NotTheWriter(Conflict):
    """The backend is for a single writer, and that is another home; the message names it."""


class Locked(ModeldropError):
    """Another process holds the lock; the message names it where it can be known."""

    exit_code = 12


class NotReady(Locked):
    """It was waited for, and the time ran out before it was there."""


class IntegrityError(ModeldropError):
    """Bytes are not what they were when they were acknowledged."""

    exit_code = 20


class JournalDamaged(IntegrityError):
    """The journal below its HEAD isn't what was written; the message names the offset."""


class JournalChanged(IntegrityError):
    """A home's journal at the backend was rewritten, cut or forked; the message names the line."""


class JournalForked(JournalChanged):
    """Somebody went on with this home's journal elsewhere: the home was copied or restored."""


class RecordDamaged(IntegrityError):
    """A record doesn't have the digest that it carries, or can't be parsed."""


class CounterDamaged(IntegrityError):
    """The version counter of an experiment can't be read; it never restarts at 1."""


class ArtifactDamaged(IntegrityError):
    """Stored bytes don't have the digest that was recorded; the message names the files."""


class SignatureWrong(IntegrityError):
    """A signature isn't that of a trusted key, or is of something else; the message says which."""


class SourceChanged(IntegrityError):
    """A file changed while it was read, so nothing of it was committed."""


class BackendError(ModeldropError):
    """The store failed, or answered what it never should."""

    exit_code = 30


class BackendUnreachable(BackendError):
    """No answer from the store: network, name or server."""


class BackendBusy(BackendUnreachable):
    """The backend answers that it has no time just now."""


class BackendRefused(BackendError):
    """The store refused the credentials, or they lack a permission, or there are none."""


class BucketNotFound(BackendError):
    """The bucket or container of the URL isn't there."""


class ConditionNotHeld(BackendError):
    """Several writers won the same create-if-absent: numbers would be given twice."""


class OutcomeUnknown(BackendError):
    """A write may or may not have happened; its intent stays open and is settled later."""


class Interrupted(ModeldropError):
    """Stopped by the user or by a signal; what was acknowledged stays."""

    exit_code = 130
