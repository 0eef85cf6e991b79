"""The measurements: what is kept of them, when one is worse, and how they are drawn."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench import kept, many, page, peers, registrations, run, sizes, tables
from bench.asking import Told, Worker, working
from bench.compare import failures, is_same_kind, worse
from bench.drawing import svg
from bench.figures import Deadline, Figure, Median
from bench.kept import Measured, Sample, as_kept
from modeldrop import Repository

TOOLS = ("modeldrop", "cp", "durable", "sqlite", "tinydb", "git")
"""Those that are on every machine."""
HERE = {"cores": 2, "processor": "one", "file_system": "ext4"}


def measured(ours: Sequence[float], theirs: Sequence[float], failed: int = 0) -> Measured:
    samples = (Sample.of("modeldrop", 8, ours, failed), Sample.of("sqlite", 8, theirs))
    return Measured("registrations", samples, machine=HERE)


def test_a_machine_that_is_slower_altogether_is_not_worse() -> None:
    assert list(worse(measured([1, 1, 1], [2, 2, 2]), measured([9, 9, 9], [18, 18, 18]))) == []


def test_a_ratio_that_has_grown_beyond_the_tolerance_is_worse() -> None:
    (found,) = worse(measured([1, 1, 1], [2, 2, 2]), measured([1.3, 1.3, 1.3], [2, 2, 2]))

    assert "registrations at 8: modeldrop / sqlite" in str(found)


def test_a_ratio_within_the_spread_of_its_rounds_is_not_worse() -> None:
    noisy = measured([0.5, 1, 1.5], [2, 2, 2])

    assert list(worse(noisy, measured([1.4, 1.4, 1.4], [2, 2, 2]))) == []
    assert list(worse(noisy, measured([1.6, 1.6, 1.6], [2, 2, 2])))


def test_a_figure_is_compared_by_its_ratio_and_spread() -> None:
    def of(ours: Median, theirs: Median) -> Measured:
        figure = Figure("cold", ours, theirs, 2, "a peer")
        return Measured("figures", figures=(as_kept("commands", figure),), machine=HERE)

    before = of(Median.of([1, 1, 1]), Median.of([1, 1, 1]))

    assert list(worse(before, of(Median.of([7, 7, 7]), Median.of([6, 6, 6])))) == []
    assert list(worse(before, of(Median.of([9, 9, 9]), Median.of([6, 6, 6]))))
    assert list(worse(before, of(Median.of([1, 9, 20]), Median.of([6, 6, 6])))) == []


def test_a_slower_machine_comes_nearer_to_a_deadline_and_is_not_worse() -> None:
    def of(ours: float) -> Measured:
        figure = Figure("committed", ours, Deadline(0.1), 1, "100 ms")
        return Measured("figures", figures=(as_kept("service", figure),), machine=HERE)

    assert list(worse(of(0.01), of(0.09))) == []


def test_a_peer_that_is_not_there_any_more_is_no_matter() -> None:
    alone = replace(measured([9], [1]), samples=(Sample.of("modeldrop", 8, [9]),))

    assert list(worse(measured([1], [1]), alone)) == []


def test_a_call_of_ours_that_failed_is_told() -> None:
    assert list(failures(measured([1], [1]))) == []
    assert list(failures(measured([1], [1], failed=1))) == [
        "FAILED: registrations at 8: 1 of modeldrop"
    ]


def test_another_disk_is_a_machine_of_another_kind_and_another_kernel_is_not() -> None:
    here = measured([1], [1])

    assert is_same_kind(here, replace(here, machine={**HERE, "kernel": "9.9"}))
    assert not is_same_kind(here, replace(here, machine={**HERE, "file_system": "xfs"}))


def test_what_is_kept_comes_back_and_names_no_machine(tmp_path: Path) -> None:
    found = replace(measured([1, 2], [3]), machine=kept.machine(tmp_path), measured_on="2026-01-01")
    found.write(tmp_path)

    assert kept.read("registrations", tmp_path) == found
    assert kept.read("speed", tmp_path) is None
    text = (tmp_path / "registrations.json").read_text()
    assert "/" not in text.replace("N/A", "")
    assert socket.gethostname() not in text


def test_what_the_repository_keeps_can_be_shown() -> None:
    for path in kept.FOLDER.glob("*.json"):
        found = kept.read(path.stem)
        assert found
        assert path.stem in {*tables.KINDS, kept.FIGURES}
        assert {each.series for each in found.samples} <= peers.BY_KEY.keys()
        assert found.measured_on


def test_every_peer_says_what_it_does_and_what_it_does_not_do() -> None:
    for peer in peers.ALL:
        assert peer.does
        assert peer.lacks or peer.key in peers.OURS_ALL
        assert not peer.needs or peer.install


def test_a_peer_that_is_missing_is_named_with_how_to_get_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gone = replace(peers.BY_KEY["gto"], needs=str(tmp_path / "nowhere"))
    monkeypatch.setattr(peers, "ALL", (gone,))
    monkeypatch.setattr(run, "PIECES", {})

    assert run.main(["--kept", str(tmp_path)]) == 0
    assert "GTO is missing. Try: make peers" in capsys.readouterr().out


def test_a_picture_has_every_series_and_ours_first() -> None:
    speed = Measured(
        "speed",
        (
            *(Sample.of("durable", 2**power, [0.001 * power]) for power in (16, 20, 30)),
            *(Sample.of("modeldrop", 2**power, [0.002 * power]) for power in (16, 20)),
        ),
    )

    drawn = ET.fromstring(svg(page._curves(speed), tables.names()))  # noqa: S314 - our own

    texts = [each.text for each in drawn.iter() if each.tag.endswith("}text")]
    assert texts.index("modeldrop") < texts.index(peers.BY_KEY["durable"].name)
    assert {"64 KiB", "1 MiB", "1 GiB"} <= set(texts)
    lines = [each for each in drawn.iter() if each.tag.endswith("}polyline")]
    assert [len(each.attrib["points"].split()) for each in lines] == [3, 2]
    width = float(drawn.attrib["width"])
    for each in lines:
        for point in each.attrib["points"].split():
            assert 0 < float(point.split(",")[0]) < width


def test_a_page_without_measurements_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(page, "read", lambda _: None)

    shown: list[Callable[[], None]] = [partial(page.curve, kind) for kind in tables.KINDS]
    for show in (*shown, page.figures, page.circumstances):
        show()
        assert "Not measured yet" in capsys.readouterr().out
    for kind in tables.KINDS:
        page.picture(kind)
        drawn = ET.fromstring(capsys.readouterr().out)  # noqa: S314 - our own
        assert any("Not measured yet" in (each.text or "") for each in drawn)
    page.beside()
    assert "| MLflow on SQLite |" in capsys.readouterr().out


def test_a_table_has_a_column_for_each_place_and_says_what_failed() -> None:
    rows = tables.table(measured([0.5, 0.5], [0.01], failed=3))

    assert rows == [
        ["registrations a second", "8"],
        ["modeldrop", "2 ±0 %, 3 failed"],
        ["SQLite", "100"],
    ]


class TestWorkers:
    """The real ones, of the tools that are on every machine."""

    @pytest.mark.parametrize("key", [key for key in TOOLS if "store" in peers.BY_KEY[key].tasks])
    def test_stores_the_bytes_that_it_is_given(self, tmp_path: Path, key: str) -> None:
        source = tmp_path / "source"
        source.write_bytes(os.urandom(100_000))

        with working([peers.BY_KEY[key]], tmp_path) as workers:
            assert workers[key].stores(source) > 0
            assert workers[key].does("peak").what > 2**20

    def test_a_peer_that_fails_is_no_measurement(self, tmp_path: Path) -> None:
        source = tmp_path / "source"
        source.write_bytes(os.urandom(100))

        with working([peers.BY_KEY["cp"]], tmp_path) as workers:
            workers["cp"].folder.joinpath("out").rename(tmp_path / "gone")
            with pytest.raises(RuntimeError, match="cp, then sync has failed"):
                workers["cp"].stores(source)

    def test_other_bytes_than_were_given_are_no_measurement(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        source = tmp_path / "source"
        source.write_bytes(os.urandom(100))

        with working([peers.BY_KEY["cp"]], tmp_path) as workers:
            worker = workers["cp"]
            monkeypatch.setattr(worker, "does", lambda *_: Told(0.1, "in/other"))
            (worker.folder / "in" / "other").write_bytes(os.urandom(100))
            with pytest.raises(RuntimeError, match="has stored other bytes"):
                worker.stores(source)

    @pytest.mark.parametrize("key", [key for key in TOOLS if "register" in peers.BY_KEY[key].tasks])
    def test_processes_are_given_numbers_of_their_own(self, tmp_path: Path, key: str) -> None:
        peer = replace(peers.BY_KEY[key], registrations=6)

        (sample,) = registrations.measure(tmp_path, [peer], (2,), 1)

        assert (sample.series, sample.at, sample.failed) == (key, 2, 0)

    def test_a_number_that_is_given_twice_is_a_failure(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        peer = replace(peers.BY_KEY["sqlite"], registrations=6)
        race = registrations._race
        monkeypatch.setattr(
            registrations,
            "_race",
            lambda racers, each: (["7"] * len(racers) * each, race(racers, each)[1]),
        )

        (sample,) = registrations.measure(tmp_path, [peer], (2,), 1)

        assert sample.failed == 5

    def test_who_is_out_of_patience_stops_and_the_others_go_on(self, tmp_path: Path) -> None:
        chosen = [peers.BY_KEY[key] for key in ("sqlite", peers.OURS, peers.TOGETHER)]
        grown = many.measure(tmp_path, chosen, 10, 0.0)

        assert {each.at for each in grown.samples} == {1}

    def test_runs_of_ours_are_stored_and_registered_either_way(self, tmp_path: Path) -> None:
        chosen = [peers.BY_KEY[key] for key in (peers.OURS, peers.TOGETHER)]

        grown = many.measure(tmp_path, chosen, 1, 1.0)

        assert {each.series for each in grown.samples} == {peers.OURS, peers.TOGETHER}
        for peer in chosen:
            with Repository.open(tmp_path / peer.key / ".mlops") as repository:
                # One to warm up, one, and five more.
                assert repository.versions("churn")[-1].version == 7

    def test_every_size_has_a_speed_and_a_peak(self, tmp_path: Path) -> None:
        chosen = [peers.BY_KEY["modeldrop"], peers.BY_KEY["durable"]]

        speeds, memory = sizes.measure(tmp_path, chosen, (2**16, 2**20))

        assert {(each.series, each.at) for each in speeds} == {
            (name, size)
            for name in ("modeldrop", "durable", "modeldropd")
            for size in (2**16, 2**20)
        }
        assert {each.series for each in memory} == {"modeldrop", "durable", "modeldropd"}

    def test_a_version_is_told_by_each(self, tmp_path: Path) -> None:
        for key in TOOLS:
            with Worker(peers.BY_KEY[key], tmp_path / key) as worker:
                assert worker.does("version").what


def test_what_was_measured_is_kept_and_pieces_of_before_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def piece(ours: float) -> list[Figure]:
        return [Figure("what", ours, 1.0, 2, "a peer")]

    took = {"first": 1.0, "second": 1.5}
    monkeypatch.setattr(
        run, "PIECES", {name: lambda *_, name=name: piece(took[name]) for name in took}
    )
    monkeypatch.setattr(peers, "ALL", ())
    options = ["--keep", "--kept", str(tmp_path)]

    assert run.main(options) == 0
    took["second"] = 1.7
    assert run.main([*options, "--only", "second"]) == 0
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert [(each["piece"], each["ours"]) for each in figures] == [("first", 1.0), ("second", 1.7)]
    took["second"] = 2.5
    assert run.main(["--kept", str(tmp_path)]) == 1
    assert "MISSED" in capsys.readouterr().out
