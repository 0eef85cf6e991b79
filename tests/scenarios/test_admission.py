"""Which stores `init` takes for a home's backend, and which it refuses, each time it is asked."""

import re
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.errors import ConditionNotHeld
from support.backends import HOLDS, IGNORES


@pytest.mark.scenario(47)
@pytest.mark.parametrize("tries", [3, pytest.param(20, marks=pytest.mark.soak)])
@pytest.mark.parametrize("kind", [*HOLDS, *IGNORES])
def test_each_try_makes_a_home_where_the_condition_holds_and_none_where_it_does_not(
    kind: str, tries: int, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url = request.getfixturevalue(f"{kind}_url")
    made = refused = 0
    for number in range(tries):
        # A prefix each: a home that joins a repository races as one that begins it.
        root, backend = tmp_path / str(number), f"{url}/{number}"
        if kind in IGNORES:
            with pytest.raises(ConditionNotHeld, match=re.escape(backend)) as caught:
                Repository.init(root, backend=backend)
            assert "--single-writer" in caught.value.hint
            assert not root.exists()
            refused += 1
            continue
        repository, created = Repository.init(root, backend=backend)
        with repository:
            verdict = repository.home.probe()
        assert verdict is not None
        assert (verdict.holds, verdict.most_winners) == (True, 1)
        made += created
    assert (made, refused) == ((tries, 0) if kind in HOLDS else (0, tries))
