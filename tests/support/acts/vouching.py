"""Keys, whose keys are trusted, and signatures."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from modeldrop import Repository, keys
from support.acts.facts import going_on, holds, is_clean
from support.acts.naming import begin_registered
from support.acts.world import HOME, Act, Fact, Say, new_home, opened
from support.sharing import note


def _sign(root: Path, say: Say) -> None:
    with opened(root) as repository:
        for renew in (False, True):
            made = repository.create_key(renew=renew)
            say(["key", made.key.key, made.key.fingerprint])
            say(["pushed", repository.push().seq])


def _begin_trust(root: Path) -> None:
    new_home(root).close()
    backend = root / HOME / "model-repository"
    with Repository.init(root / "other", backend=str(backend))[0] as repository:
        repository.create_key()
        note(repository, "a")
        repository.push()


def _trust(root: Path, say: Say) -> None:
    with Repository.open(root / "other") as other:
        home = other.home.id
        key = other.sync.sealing.require()
    with opened(root) as repository:
        [fetched] = repository.fetch()
        if fetched.trouble is not None:
            raise fetched.trouble
        say(["trusted", home, key.fingerprint])
        chosen = repository.trust_key(home, key.fingerprint)
        say(["trusted", home, chosen.fingerprint])


def _begin_signed(root: Path) -> None:
    begin_registered(root)
    with opened(root) as repository:
        repository.create_key()
        repository.sign("churn/1")


def _put_signatures(root: Path, say: Say) -> None:
    with opened(root) as repository:
        resolved, artifact = repository.artifact("churn/1")
        files = repository.signature_files(resolved, artifact)
        for path in repository.put_signatures(files, root / "out" / "signatures"):
            say(["put", path.name, files[path.name].decode()])


def _check_put(root: Path, told: list[Fact]) -> None:
    there = root / "out" / "signatures"
    for _, name, wanted in told:
        assert (there / name).read_text() == wanted
    again: list[Fact] = []
    _put_signatures(root, again.append)
    # Whatever has its name is whole, or it would be refused as another one.
    assert again[: len(told)] == told
    is_clean(root)


def _check_trust(root: Path, told: list[Fact]) -> None:
    holds(root, told)
    with opened(root) as repository:
        # It can be read, or there is none.
        every = [repository.sync.sealing.trust.record(each) for each in _pinned(repository)]
        assert None not in every
        assert all(each.trouble is None for each in repository.fetch())
    again: list[Fact] = []
    _trust(root, again.append)
    holds(root, again)


def _pinned(repository: Repository) -> list[str]:
    return repository.sync.sealing.trust.homes()


def _check_sign(root: Path, told: list[Fact]) -> None:
    _keys_are_whole(root)
    going_on(_sign)(root, told)
    with opened(root) as repository:
        assert [each.state for each in repository.verify().journals] == ["signed"]


def _keys_are_whole(root: Path) -> None:
    """See that a home that has a key has both of its private ones."""
    with opened(root) as repository:
        sealing = repository.sync.sealing
        key = sealing.key()
        if key is not None:
            private = repository.home.paths.journal_key(key.key)
            assert keys.public_of(private.read_bytes(), str(private)) == key.public
            assert keys.public_of(sealing.model_key(key), "") == key.models


def _begin_sealing(root: Path) -> None:
    _begin_trust(root)
    with Repository.open(root / "other") as other:
        note(other, "b")


def _push_sealed(root: Path, say: Say) -> None:
    with Repository.open(root / "other") as other:
        other.push()


def _fetch_sealed(root: Path, say: Say) -> None:
    with opened(root) as repository:
        [fetched] = repository.fetch()
        if fetched.trouble is not None:
            raise fetched.trouble
        say(["fetched", fetched.seq])


def _check_sealing(root: Path, told: list[Fact]) -> None:
    """See that a home which goes on after its power loss is believed by those who have fetched."""
    holds(root, told)
    _fetch_sealed(root, lambda _: None)
    with Repository.open(root / "other") as other:
        note(other, "c")
    _push_sealed(root, lambda _: None)
    again: list[Fact] = []
    _fetch_sealed(root, again.append)
    holds(root, again)
    with opened(root) as repository:
        report = repository.verify()
        assert not [each for each in report.findings if each.kind == "signature"]


VOUCHING: Final = {
    "key": Act(begin_registered, _sign, _check_sign),
    "trust": Act(_begin_trust, _trust, _check_trust, whole=False),
    "trust, new": Act(
        _begin_sealing, _fetch_sealed, _check_sealing, whole=False, killed=True, dies=_push_sealed
    ),
    "signatures": Act(_begin_signed, _put_signatures, _check_put, whole=False),
}
