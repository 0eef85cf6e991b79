"""The backend, and the room that is left on every disk that is written to."""

from __future__ import annotations

import os
from collections.abc import Iterator

from modeldrop import admission, founding
from modeldrop.doctor.check import Check, ok, problem, warning
from modeldrop.repository import Repository

_MIB = 2**20


def backend(repository: Repository, *, probe: bool) -> Iterator[Check]:
    """Look whether it answers, is the one of this home, and was found to hold."""
    home, store = repository.home, repository.backend
    found = founding.repository_record(store)
    if found is None:
        yield problem(
            "backend",
            f"{store.url} answers, and holds no repository",
            "bring the store back that was there: this home's journal names what it held",
        )
        return
    if found.repository != home.repository:
        yield problem(
            "backend",
            f"{store.url} holds the repository {found.repository}, and this home belongs to "
            f"{home.repository}",
            "`modeldrop init` in another folder makes a home for it",
        )
        return
    yield ok("backend", f"{store.url} answers, and is this home's repository")
    yield _verdict(repository, probe=probe)


def _verdict(repository: Repository, *, probe: bool) -> Check:
    recorded = repository.home.probe()
    settings = repository.home.config.backend
    verdict, when = recorded, f"at {recorded.probed_at}" if recorded else ""
    if probe:
        from modeldrop.backend import probe as racing  # noqa: PLC0415 - only where it is asked for

        verdict, when = racing.race(repository.backend, url=settings.url or None), "just now"
    if verdict is None:
        return warning(
            "create if absent", "it was never tried", "`modeldrop doctor --probe` tries it"
        )
    if settings.single_writer and not (recorded and recorded.holds):
        return _single_writer(repository, f"at {recorded.probed_at}" if recorded else "never tried")
    if not verdict.holds:
        held = f"; it held at {recorded.probed_at}" if recorded and recorded.holds else ""
        return problem(
            "create if absent",
            f"it doesn't hold ({when}): {verdict.most_winners} of {verdict.racers} won the same "
            f"race, with {verdict.probed_with}{held}",
            "stop every service that writes there, and move to a store where it holds",
        )
    if verdict.endpoint != repository.backend.endpoint:
        # By the environment, since the settings are those of `init`.
        return warning(
            "create if absent",
            f"it held {when} at {verdict.endpoint or 'the usual endpoint'}, and the endpoint is "
            f"{repository.backend.endpoint or 'the usual one'} now",
            "`modeldrop doctor --probe` tries it there",
        )
    return ok("create if absent", f"held {when}, with {verdict.probed_with}")


def _single_writer(repository: Repository, when: str) -> Check:
    writer = admission.writer_of(repository.backend)
    if writer is not None and writer.home != repository.home.id:
        return ok("create if absent", f"{admission.described(writer)} writes, and this one reads")
    return warning(
        "create if absent",
        f"it doesn't hold ({when}), and `single_writer` accepts that: this home alone writes",
        "a store where it holds takes any number of hosts",
    )


def space(repository: Repository) -> Iterator[Check]:
    """Compare the free space with the reserve."""
    home = repository.home
    reserve = home.config.service.reserve
    free: dict[str, int | None] = {"backend": repository.backend.free()}
    for name, path in (("home", home.paths.root), ("staging", home.staging)):
        found = os.statvfs(path)
        free[name] = found.f_bavail * found.f_frsize
    for name, count in sorted(free.items()):
        if count is None:
            continue
        said = f"{count // _MIB} MiB free, and {reserve // _MIB} MiB are the reserve"
        if name == "staging":
            # Nothing is written there but receipts; what fills it are those who drop.
            said = f"{count // _MIB} MiB free"
        if count < reserve:
            todo = "make room: below the reserve nothing is stored"
            yield (warning if name == "staging" else problem)(f"space: {name}", said, todo)
        elif count < 2 * reserve:
            yield warning(f"space: {name}", said, "make room soon")
        else:
            yield ok(f"space: {name}", said)
