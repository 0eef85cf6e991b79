"""Deploying: a copy at the target, a record in the sequence, and the switch that follows it.

The order is that of docs/format.md §4: note, copy, intent, record, switch, counter, journal. Before
the record is there nothing has happened, and after it everything that is left to do is a projection
of it. So what died is undone before the record and finished after it, by the next command that
deploys to the same place or asks what is live, and told to whoever runs that.

The lock of the counter lets one process of this host deploy an experiment to a target at a time;
across hosts the sequence decides.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Final

from modeldrop import counters, layout, locks
from modeldrop.admission import check_backend
from modeldrop.aliases import Aliases
from modeldrop.backend.base import Backend
from modeldrop.backend.patience import patiently
from modeldrop.deployment_records import CopyLetGo, Deploying, Deployment, KeptCopy, Target
from modeldrop.deployments import Deployments
from modeldrop.errors import BackendError, DeploymentNotFound, ModeldropError, OutcomeUnknown
from modeldrop.following import Following
from modeldrop.form import now
from modeldrop.gates import pass_gates, require_verified
from modeldrop.home import Home
from modeldrop.intents import Intents
from modeldrop.interrupted import Interrupted, Settled, age
from modeldrop.journal import Journal
from modeldrop.ledger import Ledger, Request
from modeldrop.names import check_experiment, check_target, check_text
from modeldrop.parallel import Progress
from modeldrop.placement import Place
from modeldrop.records import Artifact, Version
from modeldrop.runs import Runs
from modeldrop.sequence import Sequence
from modeldrop.structs import Frozen, Struct, field
from modeldrop.targets import Targets

_log = logging.getLogger(__name__)

# What a reader may take between reading `current` and opening what it led to.
_GRACE: Final = timedelta(minutes=10)


class Deployed(Frozen):
    """The deployment that is live at a target."""

    deployment: Deployment
    created: bool
    """Whether this call made it; False if that version was live already."""
    copied: bool
    """Whether bytes were copied for it; False where a copy that stayed there is live again."""
    settled: tuple[Settled, ...]
    """What earlier ones had left, and what became of it."""


class Ask(Frozen):
    """Who asks for a deployment, and what was said with it."""

    request: Request
    by: str
    reason: str
    confirmed: bool
    moved: Progress


class Deployer:
    """What deploys, from one home to the targets of its repository."""

    def __init__(
        self,
        home: Home,
        backend: Backend,
        journal: Journal,
        runs: Runs,
        aliases: Aliases,
        targets: Targets,
        deployments: Deployments,
    ) -> None:
        """Deploy what is at `backend`."""
        self._home = home
        self._backend = backend
        self._journal = journal
        self._aliases = aliases
        self._targets = targets
        self._deployments = deployments
        self._intents = Intents(home.paths.intents)
        self._following = Following(home, runs, targets, deployments)
        self._interrupted = Interrupted(
            home, backend, journal, targets, deployments, self._following
        )

    def deploy(self, version: Version, name: str, ask: Ask) -> Deployed:
        """Have a version live at a target; return the deployment that says so.

        A version that is live there, whole, is left alone, so that repeating is safe.

        Raises:
            TargetNotFound: there is no such target.
            GateClosed: one of its gates doesn't let the version through; nothing was changed.
            ArtifactDamaged: the stored bytes aren't what was recorded; nothing was changed.
            Locked: another process of this host deploys there for longer than the time-out.
            BackendError: the backend or the target failed; the message says what is live.
            OutcomeUnknown: it may have happened.
        """
        with self._turn(version.experiment, name, ask) as turn:
            return self._put(turn, version, None, ask)

    def roll_back(
        self,
        experiment: str,
        name: str,
        to: int | None,
        ask: Ask,
        refuse: Callable[[Version], None],
    ) -> Deployed:
        """Have a version live again that was live before; return the deployment that says so.

        It is the one before the one that is live, and again the one before that when it is called
        again; or the version `to`. `refuse` raises where that one may not be deployed any more.

        Raises:
            DeploymentNotFound: nothing is live there, or nothing was before, or never `to`.
        """
        with self._turn(check_experiment(experiment), name, ask) as turn:
            last = turn.last
            if last is None or last.url != turn.place.url:
                raise DeploymentNotFound(
                    f"nothing of {experiment} is live at the target {name}, {turn.place.url}",
                    hint=f"`modeldrop deploy {experiment} {name}` deploys its newest version",
                )
            back = self._back(last, to)
            # Of the version that is live, or of one that was.
            version = self._deployments.version(back)
            refuse(version)
            return self._put(turn, version, back, ask)

    # Under the lock

    @contextlib.contextmanager
    def _turn(self, experiment: str, name: str, ask: Ask) -> Iterator[_Turn]:
        check_target(name)
        check_text("reason", ask.reason)
        check_text("name of who deploys", ask.by)
        what = f"{experiment}@{name}"
        lock = self._home.paths.counter_lock(f"{experiment}+{name}")
        with locks.hold(lock, what=f"the deployments {what}"), _hinted(what):
            # Before settling: what an empty mount point lacks was not undone.
            patiently(lambda: check_backend(self._home, self._backend))
            target = self._targets.current(name)
            place = Place(self._targets.open(target), self._home.repository)
            settled = self._interrupted.settle(experiment, name)
            sequence = self._deployments.sequence(experiment, name)
            last = self._last(experiment, name, sequence)
            turn = _Turn(target, place, sequence, last, tuple(settled))
            self._tidy(turn)
            yield turn

    def _last(self, experiment: str, name: str, sequence: Sequence) -> Deployment | None:
        """Return the newest deployment, as a writer has to know it."""
        seen = self._deployments.counter(experiment, name) or 0
        newest, there = sequence.since(seen)
        if not there:
            path = self._home.paths.counter(f"{experiment}+{name}")
            what = f"{experiment}@{name}~{seen} was made"
            raise counters.lost(path, what, self._backend.url)
        return self._deployments.read(experiment, name, newest)

    def _put(self, turn: _Turn, version: Version, back: Deployment | None, ask: Ask) -> Deployed:
        """Have a version live; `back` is the deployment that a rollback returns to."""
        artifact = self._following.artifact(version)
        self._gate(turn, version, back, ask)
        require_verified(turn.target, version, artifact, self._backend)
        note: Deploying | None = None
        while True:
            live = self._live(turn, version, artifact)
            if live is not None:
                if note is not None:
                    self._interrupted.undo(note, turn.place)
                return Deployed(live, created=False, copied=False, settled=turn.settled)
            kept = self._kept(turn, version, artifact)
            if kept is None and note is None:
                note = self._bring(turn, version, artifact, ask)
                # It may have taken long.
                self._gate(turn, version, back, ask)
            copy = kept or str(note and note.copy)
            made = self._append(turn, version, copy, back, ask)
            if made is None:
                continue
            copied = note is not None and note.copy == made.copy
            if note is not None:
                self._interrupted.forget(note) if copied else self._interrupted.undo(
                    note, turn.place
                )
            _log.debug("step: deployment forgotten")
            return Deployed(made, created=True, copied=copied, settled=turn.settled)

    def _gate(self, turn: _Turn, version: Version, back: Deployment | None, ask: Ask) -> None:
        pass_gates(
            turn.target,
            version,
            self._aliases,
            confirmed=ask.confirmed,
            rolls_back=back is not None,
        )

    def _live(self, turn: _Turn, version: Version, artifact: Artifact) -> Deployment | None:
        """Return the newest deployment if it has a version live, whole, and `current` says so."""
        last = turn.last
        if last is None or (last.version, last.sha256, last.url) != (
            version.version,
            version.sha256,
            turn.place.url,
        ):
            return None
        # Behind only where whoever deployed it has died, or is at it.
        self._following.switch(turn.place, last.experiment, last.target)
        if turn.place.damaged(turn.place.placed(artifact, last.copy)):
            _log.warning("%s: the copy that is live is damaged", last.reference)
            return None
        turn.sequence.confirm(last.deployment)
        self._deployments.bring_forward(last.experiment, last.target, last.deployment)
        return last

    def _append(
        self, turn: _Turn, version: Version, copy: str, back: Deployment | None, ask: Ask
    ) -> Deployment | None:
        """Append the deployment and switch to it; None if somebody else was quicker.

        What that one made is `turn.last` then, and everything is judged by it again.
        """
        experiment, target = version.experiment, turn.target
        at = now()

        def make(number: int) -> bytes:
            last = turn.last
            if number != (last.deployment if last else 0) + 1:
                message = (
                    f"{self._backend.url} says that {experiment}@{target.target}~{number - 1} is "
                    "there, and doesn't show it"
                )
                raise BackendError(message, hint="run the same command again; nothing was changed")
            mine = KeptCopy(version.version, copy)
            below = last if last is not None and last.url == target.url else None
            kept = [mine, *(each for each in (below.kept if below else ()) if each != mine)]
            waiting = [each for each in (below.let_go if below else ()) if each not in turn.removed]
            leaving = [CopyLetGo(each.version, each.copy, at) for each in kept[target.keep :]]
            return Deployment(
                owner=ask.request.id,
                experiment=experiment,
                target=target.target,
                deployment=number,
                version=version.version,
                sha256=version.sha256,
                before=below.version if below else None,
                back=_back_of(below, version, back),
                rolled_back=back is not None,
                change=target.change,
                url=turn.place.url,
                reason=ask.reason,
                home=self._home.id,
                host=self._home.host,
                deployed_by=ask.by,
                deployed_at=at,
                kept=tuple(kept[: target.keep]),
                let_go=(*waiting, *leaving),
            ).to_bytes()

        meaning = self._following.meaning(experiment, target.target, turn.place)
        ledger = Ledger(turn.sequence, self._intents, self._journal, meaning)
        first = (turn.last.deployment if turn.last else 0) + 1
        appended = ledger.append(
            make, ask.request, owner=ask.request.id, at=first, accept=lambda *_: True
        )
        found = self._deployments.parse(appended.data, experiment, target.target, appended.number)
        if found.owner == ask.request.id:
            return found
        turn.last = found
        return None

    def _kept(self, turn: _Turn, version: Version, artifact: Artifact) -> str | None:
        """Return a whole copy of a version that is kept at the target, if there is one."""
        last = turn.last
        if last is None or last.url != turn.place.url:
            return None
        for each in last.kept:
            if each.version == version.version and not turn.place.damaged(
                turn.place.placed(artifact, each.copy)
            ):
                return each.copy
        return None

    def _bring(self, turn: _Turn, version: Version, artifact: Artifact, ask: Ask) -> Deploying:
        """Copy a version to the target; return the note of it, which whoever settles reads."""
        note = Deploying(
            request=ask.request.id,
            experiment=version.experiment,
            target=turn.target.target,
            url=turn.place.url,
            version=version.version,
            copy=layout.new_copy(version.experiment, version.version),
            starts_at=(turn.last.deployment if turn.last else 0) + 1,
            user=ask.request.user,
            begun_at=now(),
            settled_at=None,
        )
        self._interrupted.note(note)
        _log.debug("step: deployment noted")
        try:
            turn.place.bring(self._backend, artifact, note.copy, ask.moved)
        except Exception:
            with contextlib.suppress(ModeldropError):
                self._interrupted.undo(note, turn.place)
            raise
        _log.debug("step: copy verified")
        return note

    def _tidy(self, turn: _Turn) -> None:
        """Remove copies that were let go before anybody who reads could still be at them."""
        last = turn.last
        if last is None or last.url != turn.place.url:
            return
        for each in last.let_go:
            if age(each.let_go_at, last.reference) < _GRACE:
                continue
            try:
                turn.place.remove(each.copy)
            except BackendError as error:
                _log.warning("%s/%s can't be removed yet: %s", turn.place.url, each.copy, error)
                continue
            turn.removed.append(each)
        _log.debug("step: copies collected")

    def _back(self, last: Deployment, to: int | None) -> Deployment:
        """Return the deployment that a rollback returns to."""
        at = last.back if to is None else last.deployment
        while at:
            found = self._deployments.deployment(last.experiment, last.target, at)
            if to is None or (found.version == to and found.url == last.url):
                return found
            at -= 1
        what = "nothing" if to is None else f"{last.experiment}/{to} never"
        raise DeploymentNotFound(
            f"{last.name} can't be rolled back from {last.experiment}/{last.version}: {what} was "
            "live there before",
            hint=f"`modeldrop deployments {last.name}` shows what was; `modeldrop deploy` deploys "
            "anything",
        )


class _Turn(Struct):
    """A target and what was deployed there, while the lock is held."""

    target: Target
    place: Place
    sequence: Sequence
    last: Deployment | None
    settled: tuple[Settled, ...]
    removed: list[CopyLetGo] = field(default_factory=list)


def _back_of(below: Deployment | None, version: Version, back: Deployment | None) -> int | None:
    """Return the number of the deployment that a rollback of the next one returns to."""
    if back is not None:
        return back.back
    if below is None:
        return None
    return below.back if below.version == version.version else below.deployment


@contextlib.contextmanager
def _hinted(name: str) -> Iterator[None]:
    """Have an unknown outcome say what is true of deploying again."""
    try:
        yield
    except OutcomeUnknown as error:
        error.hint = (
            f"run the same command again: it finds out, and leaves {name} alone if it is so"
        )
        raise
