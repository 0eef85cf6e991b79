"""Whether create-if-absent has one winner at a backend, found by racing for it.

There is no asking: some servers that speak S3 ignore the condition, and others honour it for one
request at a time and not for two at once. So sixteen threads, let go together, create one key with
sixteen contents, five times over. A server that lets two win is found; that none was found proves
nothing for ever, so the record says with what and when it was tried.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
from collections.abc import Sequence
from typing import Final

from modeldrop import layout
from modeldrop.backend import urls
from modeldrop.backend.base import Backend
from modeldrop.errors import BackendError, ConditionNotHeld, ModeldropError
from modeldrop.form import now
from modeldrop.home_records import Probe
from modeldrop.structs import Struct

RACERS: Final = 16
ROUNDS: Final = 5
# Rounds whose answers were lost on the way say nothing; so many more are tried.
_SPARE: Final = 3
_START_SECONDS: Final = 60


def race(
    backend: Backend,
    *,
    url: str | None = None,
    single_writer: bool = False,
    racers: int = RACERS,
    rounds: int = ROUNDS,
) -> Probe:
    """Return whether `create` had exactly one winner in every round; leaves nothing behind.

    `url` is what the record says instead of the backend's own.

    Raises:
        BackendError: every racer of a round failed, so nothing is known.
    """
    most = 0
    held = 0
    for _ in range(rounds + _SPARE):
        found = _round(backend, racers)
        most = max(most, found.winners)
        if found.breach:
            break
        held += found.winners
        if held == rounds:
            break
    return Probe(
        url=backend.url if url is None else url,
        endpoint=backend.endpoint,
        # Asked after the race: a file system without hard links is found out by it.
        holds=held == rounds and backend.capabilities.exclusive_create,
        single_writer=single_writer,
        racers=racers,
        rounds=rounds,
        most_winners=most,
        probed_at=now(),
        probed_with=_client(backend.url),
    )


def require(probe: Probe) -> None:
    """Return if the condition held, or if the user said that there is one writer only.

    Raises:
        ConditionNotHeld: it didn't.
    """
    if probe.holds or probe.single_writer:
        return
    where = f"{probe.url} ({probe.endpoint})" if probe.endpoint else probe.url
    how = (
        f"{probe.most_winners} of {probe.racers} writers that raced for one record all won"
        if probe.most_winners > 1
        else "a record isn't created by exactly one of the writers that race for it"
    )
    message = f"create-if-absent doesn't hold at {where}: {how}; a version would be given twice"
    raise ConditionNotHeld(
        message,
        hint="use a store where it holds (Amazon S3, MinIO, Cloudflare R2, Ceph RGW, Azure Blob "
        "Storage, Google Cloud Storage, a local folder), or `modeldrop init --single-writer` if "
        "this home is the only one that will ever write there",
        detail={
            "url": probe.url,
            "endpoint": probe.endpoint,
            "most_winners": probe.most_winners,
            "racers": probe.racers,
        },
    )


def _client(url: str) -> str:
    """Return the versions that the verdict was reached with: a client can drop the condition."""
    from importlib import metadata  # noqa: PLC0415 - 30 ms, and only `init` probes

    found = []
    for package in ("modeldrop", urls.driver_of(url)):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{package} {metadata.version(package)}" if package else "")
    return ", ".join(filter(None, found)) or "modeldrop"


class _Found(Struct):
    """How many won one round, and whether that, or what is stored, breaks the condition."""

    winners: int
    breach: bool


class _Racer(Struct):
    data: bytes
    won: bool = False
    error: ModeldropError | None = None


def _round(backend: Backend, racers: int) -> _Found:
    key = layout.probe(secrets.token_hex(16))
    start = threading.Barrier(racers)
    line_up = [_Racer(f'{{"racer": {n}, "of": "{key}"}}\n'.encode()) for n in range(racers)]
    try:
        threads = [
            threading.Thread(target=_run, args=(backend, key, racer, start)) for racer in line_up
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        errors = [racer.error for racer in line_up if racer.error is not None]
        if len(errors) == racers:
            raise errors[0]
        winners = [racer for racer in line_up if racer.won]
        if len(winners) > 1:
            # No need to read: a server that the race has brought to a halt is judged all the same.
            return _Found(len(winners), breach=True)
        return _judge(line_up, backend.read(key))
    finally:
        # What is left, should even this fail, is a file in a folder that nothing reads.
        with contextlib.suppress(BackendError):
            backend.delete(key)


def _run(backend: Backend, key: str, racer: _Racer, start: threading.Barrier) -> None:
    try:
        start.wait(_START_SECONDS)
        racer.won = backend.create(key, racer.data)
    except ModeldropError as error:
        racer.error = error
    except threading.BrokenBarrierError:
        racer.error = BackendError("the racers couldn't be started together")


def _judge(racers: Sequence[_Racer], stored: bytes | None) -> _Found:
    """Judge a round with at most one winner by what is stored."""
    for racer in racers:
        if racer.won:
            return _Found(1, breach=stored != racer.data)
    # Nobody was told: the winner's answer was lost. That the record is one of theirs is no
    # proof, and no breach either, but nothing there after somebody was turned away is one.
    return _Found(0, breach=all(racer.data != stored for racer in racers))
