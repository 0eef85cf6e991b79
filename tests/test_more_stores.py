"""The stores of the extras, from a drop to a pull, by two homes that know nothing of each other."""

import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.intake import drop

REGISTRATIONS = 6


@pytest.fixture(params=["gcs", "sftp"])
def url(request: pytest.FixtureRequest) -> str:
    return f"{request.getfixturevalue(f'{request.param}_url')}/team"


def test_two_homes_give_dense_numbers_and_read_what_the_other_stored(
    url: str, tmp_path: Path
) -> None:
    homes: list[Repository] = []
    for name in ("first", "second"):
        root = tmp_path / name / ".mlops"
        made = (
            Repository.init(root, backend=url)[0] if not homes else Repository.clone(root, url)[0]
        )
        homes.append(made)

    def work(number: int) -> list[int]:
        # Each in turn, so that both race for the same numbers all the time.
        given = []
        for turn in range(REGISTRATIONS):
            run = str(uuid.uuid4())
            model = tmp_path / f"{number}-{turn}.bin"
            model.write_text(run)
            homes[number].upload(run, model)
            given.append(homes[number].register(run, "churn").version.version)
        return given

    with ThreadPoolExecutor(2) as pool:
        given = list(pool.map(work, range(2)))
    assert sorted(given[0] + given[1]) == list(range(1, 2 * REGISTRATIONS + 1))

    # What is dropped goes the same way.
    dropped = tmp_path / "weights.bin"
    dropped.write_bytes(bytes(range(256)) * 40_000)
    run = drop(homes[0].home.staging, [dropped], experiment="churn")
    engine = homes[0].engine()
    engine.scan_once()
    engine.close()
    assert homes[1].register(run, "churn").version.version == 2 * REGISTRATIONS + 1
    pulled = homes[1].pull("churn", tmp_path / "pulled")
    assert pulled.read_bytes() == dropped.read_bytes()
    homes[0].push()
    fetched = homes[1].fetch()
    assert [each.trouble for each in fetched] == [None]
    for each in homes:
        assert each.verify(deep=True).findings == []
        each.close()
