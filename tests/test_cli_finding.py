"""`search`, `best`, `diff`, `plot`, and how `list` and `runs` are sorted: what people see."""

from __future__ import annotations

import json
import sys
import xml.dom.minidom
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from modeldrop import Repository
from modeldrop.records import FileFormat
from modeldrop.structs import replace
from modeldrop_cli import charts
from modeldrop_cli.charts import Chart
from modeldrop_cli.objects.finding import (
    BestObject,
    DiffObject,
    ExperimentsObject,
    PlotObject,
    SearchObject,
    SearchRunsObject,
    VersionsObject,
)
from modeldrop_cli.objects.stored import RunObject
from support import modelfiles, reference, worlds
from support.program import Program, Ran, as_process, in_process
from support.stores import model


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Program:
    return in_process(capsys)


@pytest.fixture
def world(repository: Repository) -> Repository:
    """A home with thirty runs and ten versions of churn."""
    worlds.fill(repository, 30, {"churn": 10})
    return repository


def documented(value: object, kind: type) -> bool:
    """Say whether printed JSON is what docs/json.md says, showing the differences if not."""
    assert reference.differences(value, kind) == []
    return True


def auc(number: int) -> float:
    return float(worlds.said(number).metrics["auc"])


# list and runs


def test_list_is_sorted_and_has_the_columns_that_were_asked_for(
    world: Repository, run: Program
) -> None:
    told = run(
        "list", "churn", "--sort", "-metrics.auc", "--columns", "version, metrics.auc,tags.team"
    )
    assert told.code == 0
    header, *rows = told.lines
    assert header.split() == ["VERSION", "METRICS.AUC", "TAGS.TEAM"]
    order = sorted(range(1, 11), key=auc, reverse=True)
    assert [row.split() for row in rows] == [
        [f"churn/{n}", worlds.said(n).metrics["auc"], worlds.said(n).tags["team"]] for n in order
    ]
    assert run("list", "churn", "--sort", "metrics.auc", "-n", "2", "-q").lines == [
        f"churn/{n}" for n in order[:-3:-1]
    ]
    whole = run("list", "churn", "--json").json
    assert documented(whole, VersionsObject)
    assert whole["versions"][0]["params"] == {"depth": 10, "lr": "1e-05", "kind": "tree"}
    assert documented(run("list", "--json").json, ExperimentsObject)


def test_runs_are_sorted_and_have_the_columns_that_were_asked_for(
    world: Repository, run: Program
) -> None:
    told = run(
        "runs", "--sort", "metrics.loss", "--columns", "run,metrics.loss,artifacts", "-n", "3"
    )
    header, *rows = told.lines
    assert header.split() == ["RUN", "METRICS.LOSS", "ARTIFACTS"]
    assert [row.split() for row in rows] == [
        [worlds.guid(n), f"{n}.5", "model.onnx"] for n in (1, 2, 3)
    ]
    assert run("runs", "-q", "-n", "1").lines == [worlds.guid(30)]
    streamed = [json.loads(line) for line in run("runs", "--json").lines]
    assert len(streamed) == 30
    assert all(documented(each, RunObject) for each in streamed)


@pytest.mark.parametrize(
    "call",
    [
        ("list", "--columns", "version,acuracy"),
        ("list", "--columns", ","),
        ("list", "--sort", "aliases"),
        ("list", "--sort", "stored"),
        ("runs", "--columns", "version"),
        ("runs", "--sort", "-artifacts"),
        ("search", "metrics.auc", "--sort", "nothing"),
        ("search", "--runs", "metrics.auc", "--columns", "aliases"),
    ],
)
def test_what_cant_be_shown_or_sorted_is_a_wrong_call(
    world: Repository, run: Program, call: tuple[str, ...]
) -> None:
    told = run(*call)
    assert (told.code, told.out) == (2, "")
    assert "Try: " in told.err


# search


def test_search_prints_a_table_ids_or_json(world: Repository, run: Program) -> None:
    query = "experiment=churn and metrics.auc>0.3 and params.depth<=8"
    expected = [f"churn/{n}" for n in range(10, 0, -1) if auc(n) > 0.3 and n <= 8]
    assert expected
    told = run("search", query)
    assert (told.code, told.err) == (0, "")
    assert [line.split()[0] for line in told.lines] == ["VERSION", *expected]
    assert run("search", query, "-q").lines == expected
    whole = run("search", query, "--json").json
    assert documented(whole, SearchObject)
    assert [f"churn/{each['version']}" for each in whole["versions"]] == expected
    assert whole["as_of"].startswith("20")
    told = run("search", "--runs", "params.depth=3", "-q")
    assert told.lines == [worlds.guid(19), worlds.guid(3)]
    whole = run("search", "--runs", "params.depth=3", "--json").json
    assert documented(whole, SearchRunsObject)
    assert [each["run"] for each in whole["runs"]] == told.lines
    assert run("search", "tags.team=nobody").err == "No version is like that.\n"
    assert run("search", "--runs", "tags.team=nobody").err == "No run is like that.\n"
    assert run("search", "tags.team=nobody", "-q").err == ""


def test_a_query_that_is_wrong_says_where(world: Repository, run: Program) -> None:
    told = run("search", "experiment=churn and metrics.auc>")
    assert told.code == 2
    assert told.err.startswith(
        "Error: the query is wrong at character 34 (its end): a value was expected after `>`\n"
    )
    assert "Try: write it like `experiment=churn" in told.err
    error = run("search", "metrics.auc>0.9 or (version", "--json").error
    assert (error["kind"], error["detail"]["at"]) == ("InvalidQuery", 28)


def test_search_says_that_other_hosts_went_on(tmp_path: Path, run: Program) -> None:
    assert run("init", "--backend", tmp_path / "store").code == 0
    told = run("search", "experiment=churn")
    assert "What other hosts did since 20" in told.err
    assert "`modeldrop fetch` gets it" in told.err
    assert run("search", "experiment=churn", "-q").err == ""


def test_a_query_drives_no_terminal(world: Repository, run: Program) -> None:
    evil = "\x1b]0;owned\x07"
    for call in (
        ("search", evil),
        ("search", f"tags.{evil}=1"),
        ("search", f"tags.team='{evil}"),
        ("list", "--columns", f"version,tags.{evil}"),
        ("list", "--columns", evil),
        ("list", "--sort", evil),
        ("best", "churn", evil),
        ("plot", "churn", evil),
    ):
        for more in ([], ["--json"]):
            told = run(*call, *more)
            assert "\x1b" not in told.out + told.err, call


# best


def test_best_prints_a_version(world: Repository, run: Program) -> None:
    order = [f"churn/{n}" for n in sorted(range(1, 11), key=auc, reverse=True)]
    told = run("best", "churn", "auc")
    assert (told.code, told.err) == (0, "Its runs declare that a large auc is good.\n")
    assert told.lines[0].split()[:2] == ["VERSION", "VALUE"]
    assert told.lines[1].split()[0] == order[0]
    assert run("best", "churn", "metrics.auc", "-n", "3", "-q").lines == order[:3]
    assert run("best", "churn", "auc", "--min", "-q").lines == [order[-1]]
    whole = run("best", "churn", "auc", "--max", "--json").json
    assert documented(whole, BestObject)
    assert (whole["direction"], whole["declared"]) == ("max", False)
    assert f"churn/{whole['versions'][0]['version']}" == order[0]


def test_what_is_retired_is_marked_and_passed_over(world: Repository, run: Program) -> None:
    order = [f"churn/{n}" for n in sorted(range(1, 11), key=auc, reverse=True)]
    world.retire(order[0])
    assert run("best", "churn", "auc", "-q").lines == [order[1]]
    told = run("best", "churn", "auc")
    assert told.err.endswith(f"{order[0]} with {said(order[0])} is retired, and passed over.\n")
    whole = run("best", "churn", "auc", "--json").json
    assert documented(whole, BestObject)
    assert [f"churn/{each['version']}" for each in whole["passed_over"]] == [order[0]]
    for call in (("list", "churn"), ("search", "experiment=churn"), ("plot", "churn", "auc")):
        assert f"Retired: {order[0]}.\n" in run(*call).err
    assert run("list", "churn", "--columns", "version,retired").out.count("true") == 1
    plot = run("plot", "churn", "auc", "--json").json
    assert documented(plot, PlotObject)
    assert [f"churn/{each['version']}" for each in plot["points"] if each["retired"]] == [order[0]]
    assert order[1].partition("/")[2] in run("plot", "churn", "auc").err.splitlines()[0]


def said(reference: str) -> str:
    return worlds.said(int(reference.partition("/")[2])).metrics["auc"]


def test_best_without_a_direction_names_the_choice(
    repository: Repository, run: Program, tmp_path: Path
) -> None:
    path = model(tmp_path / "aside" / "model.bin", "weights")
    repository.upload(worlds.guid(1), path, metadata={"metrics": {"auc": "0.5"}})
    repository.register(worlds.guid(1), "churn")
    told = run("best", "churn", "auc")
    assert (told.code, told.out) == (2, "")
    assert "no version of churn declares whether a large or a small auc is good" in told.err
    assert "say it with `--max` or `--min`" in told.err
    assert run("best", "churn", "acu").code == 10
    assert run("best", "fraud", "auc").code == 10


# diff


def stored(repository: Repository, files: dict[str, bytes], **said: object) -> str:
    """Store a run of these files, which says something of itself."""
    run = worlds.guid(len(list(repository.runs_at_backend.guids())) + 1)
    folder = repository.home.paths.root.parent / f"aside-{run}" / "model"
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    repository.upload(run, folder, metadata=said)
    return run


def test_diff_shows_what_is_said_and_which_files_differ(
    repository: Repository, run: Program
) -> None:
    same = b"the same"
    one = stored(
        repository,
        {"a.txt": same, "b.txt": b"old", "gone.txt": b"gone"},
        params={"depth": 8, "lr": 0.1},
        metrics={"auc": 0.91},
        tags={"team": "risk"},
    )
    two = stored(
        repository,
        {"a.txt": same, "b.txt": b"newer", "sub/new.txt": b"new"},
        params={"depth": 9, "lr": 0.1},
        metrics={"auc": 0.93, "loss": 2},
    )
    for each in (one, two):
        repository.register(each, "churn")
    told = run("diff", "churn/1", "churn/2", "--json").json
    assert documented(told, DiffObject)
    assert (told["a"], told["b"], told["same_bytes"]) == ("churn/1", "churn/2", False)
    assert told["changes"] == [
        {"name": "metrics.auc", "a": "0.91", "b": "0.93"},
        {"name": "metrics.loss", "a": None, "b": "2"},
        {"name": "params.depth", "a": "8", "b": "9"},
        {"name": "tags.team", "a": "risk", "b": None},
    ]
    assert [(each["path"], each["change"]) for each in told["files"]] == [
        ("b.txt", "changed"),
        ("gone.txt", "removed"),
        ("sub/new.txt", "added"),
    ]
    assert told["files"][0]["b"]["size"] == 5
    assert told["files"][2]["a"] is None
    assert (told["tensors"], told["unread"]) == ([], [])
    shown = run("diff", "churn/1", "churn/2")
    assert shown.code == 0
    assert shown.lines[0].split() == ["WHAT", "CHURN/1", "CHURN/2"]
    assert "params.depth  8" in shown.out
    assert "3 B → 5 B" in shown.out
    assert run("diff", "churn/1", "churn/2", "-q").lines == [
        *("metrics.auc", "metrics.loss", "params.depth", "tags.team"),
        *("b.txt", "gone.txt", "sub/new.txt"),
    ]
    told = run("diff", f"run:{one}", f"run:{two}", "--json").json
    assert len(told["files"]) == 3


def test_diff_shows_experiments_switches_and_data_sets(
    repository: Repository, run: Program
) -> None:
    digests = ("a" * 64, "b" * 64)
    runs = [
        stored(
            repository,
            {"model": digest.encode()},
            experiment=f"churn-{digest[0]}",
            datasets=[{"name": "train", "sha256": digest}],
            code={"commit": digest[:40], "dirty": digest[0] == "a"},
        )
        for digest in digests
    ]

    told = run("diff", *(f"run:{each}" for each in runs), "--json").json

    changes = {each["name"]: (each["a"], each["b"]) for each in told["changes"]}
    assert changes["datasets.train"] == digests
    assert changes["code.dirty"] == ("true", "false")


def test_diff_of_the_same_says_so(repository: Repository, run: Program) -> None:
    one = stored(repository, {"a.txt": b"same"}, metrics={"auc": 1})
    two = stored(repository, {"a.txt": b"same"}, metrics={"auc": 2})
    told = run("diff", one, one)
    assert (told.code, told.out) == (0, "")
    assert told.err == f"run:{one}~1 and run:{one}~1 are the same.\n"
    told = run("diff", one, two)
    assert told.err == "Their files are the same.\n"
    assert run("diff", one, two, "--json").json["same_bytes"]
    assert run("diff", one, "churn/1").code == 10


def test_diff_shows_tensors_that_were_added_removed_or_changed(
    repository: Repository, run: Program
) -> None:
    def tensors(**shapes: tuple[int, ...]) -> bytes:
        whole: bytes = save({name: np.zeros(shape, "float32") for name, shape in shapes.items()})
        return whole

    one = stored(
        repository,
        {"a.safetensors": tensors(kept=(2,), gone=(3,), grown=(4, 4)), "b.safetensors": b"\0" * 99},
    )
    two = stored(
        repository,
        {
            "a.safetensors": tensors(kept=(2,), new=(1,), grown=(8, 4)),
            "b.safetensors": tensors(new=(1,)),
        },
    )
    told = run("diff", one, two, "--json").json
    assert documented(told, DiffObject)
    assert [(each["tensor"], each["change"]) for each in told["tensors"]] == [
        ("gone", "removed"),
        ("grown", "changed"),
        ("new", "added"),
    ]
    assert told["tensors"][1]["a"] == {"dtype": "F32", "shape": [4, 4]}
    assert told["tensors"][1]["b"] == {"dtype": "F32", "shape": [8, 4]}
    (unread,) = told["unread"]
    assert unread["path"].endswith("b.safetensors")
    shown = run("diff", one, two)
    assert "a.safetensors: grown  changed  F32" in shown.out
    assert "[4, 4] → [8, 4]" in shown.out
    assert "TENSORS NOT READ" in shown.out
    # What isn't there any more hides nothing else.
    key = repository.resolve(one).revision.artifacts[0].files[0].key
    path = repository.home.paths.model_repository / key
    path.chmod(0o644)
    path.unlink()
    told = run("diff", one, two, "--json")
    assert told.code == 0
    assert any("isn't at the backend" in each["reason"] for each in told.json["unread"])


# formats


def test_inspect_of_what_is_missing_is_damage(repository: Repository, run: Program) -> None:
    reference = stored(repository, {"a.json": b"{}", "b.npy": b"\x93NUMPY"})
    key = repository.resolve(reference).revision.artifacts[0].files[1].key
    (repository.home.paths.model_repository / key).unlink()
    told = run("inspect", f"run:{reference}", "--tensors")
    assert (told.code, told.out) == (20, "")
    assert f"{key} isn't there" in told.err
    assert "modeldrop verify" in told.err


def test_search_and_lists_know_what_the_files_are(world: Repository, run: Program) -> None:
    root = world.home.paths.model_repository
    formats = (FileFormat("model.onnx", "onnx", runs_code=False, summary={}, warnings=()),)
    known = replace(worlds.revision(31, worlds.said(31)), formats=formats)
    worlds.put(root, known, worlds.version(known, "churn", 11))
    assert run("search", "format=onnx", "-q").lines == ["churn/11"]
    assert run("search", "--runs", "format", "-q").lines == [known.run]
    assert run("search", "runs_code=false", "-q").lines == ["churn/11"]
    assert run("search", "runs_code=true", "-q").lines == []
    told = run("list", "churn", "--columns", "version,formats,runs_code", "-n", "1")
    assert told.lines[1].split() == ["churn/11", "onnx"]
    assert run("list", "--json").json["experiments"][0]["formats"] == ["onnx"]
    changes = run("diff", "churn/10", "churn/11", "--json").json["changes"]
    assert {"name": "formats.model.onnx", "a": None, "b": "onnx"} in changes


# plot


def test_plot_draws_in_the_terminal(world: Repository, run: Program) -> None:
    told = run("plot", "churn", "auc")
    best = max(range(1, 11), key=auc)
    assert told.code == 0
    assert told.lines[0] == "auc of churn"
    assert told.out.count("●") == 9
    assert told.out.count("★") == 1
    assert told.err == f"★ is the best, version {best}.\n"
    assert all(len(line) <= 80 for line in told.lines)
    assert told.lines[-1].split() == ["1", "10"]
    assert run("plot", "churn", "auc", "-q").lines == [f"churn/{n}" for n in range(1, 11)]
    whole = run("plot", "churn", "auc", "--json").json
    assert documented(whole, PlotObject)
    assert [float(each["value"]) for each in whole["points"]] == [auc(n) for n in range(1, 11)]
    assert run("plot", "churn", "nothing").code == 10
    plain = as_process("plot", "churn", "auc", env={"PYTHONIOENCODING": "ascii"})
    assert plain.out.isascii()
    assert plain.out.count("*") == 9


def test_plot_of_what_is_infinite_names_what_prints_it(
    repository: Repository, run: Program
) -> None:
    repository.register(stored(repository, {"a": b"1"}, metrics={"loss": float("inf")}), "churn")

    told = run("plot", "churn", "loss")

    assert (told.code, told.out) == (10, "")
    assert "`--json` prints the values" in told.err


def test_plot_without_a_direction_marks_no_best(repository: Repository, run: Program) -> None:
    for number in (1, 2):
        one = stored(repository, {"a": b"%d" % number}, metrics={"area": number})
        repository.register(one, "churn")

    told = run("plot", "churn", "area")

    assert told.code == 0
    assert "is the best" not in told.err


def test_best_of_a_direction_that_was_asked_for_says_nothing_of_its_runs(
    repository: Repository, run: Program
) -> None:
    repository.register(stored(repository, {"a": b"1"}, metrics={"area": 1}), "churn")

    told = run("best", "churn", "area", "--max")

    assert told.code == 0
    assert "declare" not in told.err


def test_data_sets_are_a_column_by_their_names(repository: Repository, run: Program) -> None:
    datasets = [{"name": each, "sha256": "a" * 64} for each in ("train", "test")]
    repository.register(stored(repository, {"a": b"1"}, datasets=datasets), "churn")

    told = run("list", "churn", "--columns", "version,dataset")

    assert "test, train" in told.out


def test_the_run_that_a_run_came_from_is_a_column(repository: Repository, run: Program) -> None:
    first = stored(repository, {"a": b"1"})
    repository.register(stored(repository, {"a": b"2"}, parent=first), "churn")

    assert first in run("list", "churn", "--columns", "version,parent").out


def test_a_version_of_a_whole_run_is_listed_and_found(repository: Repository, run: Program) -> None:
    repository.register(stored(repository, {"a": b"1", "b": b"2"}), "churn", artifact=".")

    assert run("list", "churn", "-q").lines == ["churn/1"]
    assert run("search", "experiment=churn", "-q").lines == ["churn/1"]


def test_runs_that_are_searched_are_named_and_say_whether_they_run_code(
    repository: Repository, run: Program
) -> None:
    plain = stored(repository, {"a.npy": modelfiles.npy()}, tags={"team": "risk"})
    pickled = stored(repository, {"a.pkl": modelfiles.pickled()}, tags={"team": "risk"})

    told = run("search", "--runs", "tags.team=risk", "-q")

    assert sorted(told.lines) == sorted((plain, pickled))
    found = repository.finding.search_runs("tags.team=risk").found
    assert sorted(each.reference for each in found) == [
        f"run:{each}~1" for each in sorted(told.lines)
    ]
    lines = run("runs", "--columns", "run,runs_code").lines
    assert {line.split()[0]: line.split()[1:] for line in lines[1:]}[pickled] == ["true"]


def test_inspect_tells_of_what_is_stored_and_of_its_copy_here(
    repository: Repository, run: Program
) -> None:
    one = stored(repository, {"a.npy": modelfiles.npy(), "b.txt": b"no model"})
    repository.register(one, "churn")

    told = run("inspect", "churn/1")
    assert "a.npy: numpy" in told.out
    assert run("path", "churn/1").code == 0
    again = run("inspect", "churn/1", "--tensors", "--json").json
    assert again["files"][0]["tensors"][0]["shape"] == [3, 4]


def test_plot_writes_an_svg(world: Repository, run: Program, tmp_path: Path) -> None:
    told = run("plot", "churn", "auc", "-o", "auc.svg")
    assert (told.code, told.out) == (0, "auc.svg\n")
    drawn = xml.dom.minidom.parse(str(tmp_path / "auc.svg"))  # noqa: S318 - we wrote it
    points = drawn.getElementsByTagName("circle")
    assert len(points) == 10
    titles = [each.firstChild.firstChild.data for each in points]  # type: ignore[union-attr] # it has one
    assert titles == [f"{n}: {auc(n)!r}" for n in range(1, 11)]
    places = [float(each.getAttribute("cy")) for each in points]
    assert [places.index(each) for each in sorted(places)] == [
        n - 1 for n in sorted(range(1, 11), key=auc, reverse=True)
    ]
    whole = run("plot", "churn", "auc", "-o", "auc.svg", "--json").json
    assert whole["file"] == "auc.svg"


def test_plot_writes_a_png(world: Repository, run: Program, tmp_path: Path) -> None:
    assert run("plot", "churn", "auc", "-o", "auc.png").code == 0
    data = (tmp_path / "auc.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert (int.from_bytes(data[16:20]), int.from_bytes(data[20:24])) == (800, 450)


def test_without_matplotlib_a_png_names_what_to_do(
    world: Repository, run: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    told = run("plot", "churn", "auc", "-o", "auc.png")
    assert (told.code, told.out) == (2, "")
    assert "pip install 'modeldrop[plot]'" in told.err
    assert not (tmp_path / "auc.png").exists()
    assert run("plot", "churn", "auc", "-o", "auc.gif").code == 2
    assert run("plot", "churn", "auc", "-o", "nowhere/auc.svg").code == 1


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0.0, 0.5, 1.0]),
        (0.82, 0.93, [0.8, 0.85, 0.9, 0.95]),
        (-3.0, 12.0, [-5.0, 0.0, 5.0, 10.0, 15.0]),
        (5.0, 5.0, [4.5, 5.0, 5.5]),
        (0.0, 0.0, [-1.0, -0.5, 0.0, 0.5, 1.0]),
        (1e-9, 2e-9, [1e-9, 1.5e-9, 2e-9]),
        (1e300, 1.7e300, [1e300, 1.2e300, 1.4e300, 1.6e300, 1.8e300]),
    ],
)
def test_axes_have_round_marks_around_all_values(
    low: float, high: float, expected: list[float]
) -> None:
    found = charts.marks(low, high)
    assert found == pytest.approx(expected)
    assert found[0] <= low * (1 + 1e-9) or low < 0
    assert len(found) <= 8


def test_one_version_and_many_fit_into_a_narrow_terminal() -> None:
    for versions in ([7], list(range(1, 5000))):
        chart = Chart("auc of churn", versions, [float(each % 13) for each in versions])
        for width in (20, 80):
            drawn = charts.lines(chart, width)
            assert max(map(len, drawn)) <= max(width, 20)
            assert "●" in "".join(drawn)


# From a drop to an answer, at an object store


def test_at_an_object_store_what_was_dropped_is_found_and_compared(
    s3_url: str, run: Program, tmp_path: Path
) -> None:
    assert run("init", "--backend", s3_url).code == 0
    for number, size in ((1, 2), (2, 3)):
        data = save({"weights": np.zeros((size,), "float32")})
        (tmp_path / "model.safetensors").write_bytes(data)
        said = ("--metric", f"auc=0.{number}", "--param", f"depth={number}")
        guid = run("drop", "--wait", "model.safetensors", "-e", "churn", *said).out.strip()
        assert run("register", guid).code == 0
    assert run("search", "metrics.auc>0.1 and params.depth<=8", "-q").lines == ["churn/2"]
    assert run("search", "format=safetensors", "-q").lines == ["churn/2", "churn/1"]
    assert run("list", "churn", "--sort", "metrics.auc", "-q").lines == ["churn/1", "churn/2"]
    assert run("best", "churn", "auc", "--min", "-q").lines == ["churn/1"]
    assert len(run("runs", "-q").lines) == 2
    told = run("diff", "churn/1", "churn/2", "--json").json
    (tensor,) = told["tensors"]
    assert (tensor["change"], tensor["a"]["shape"], tensor["b"]["shape"]) == ("changed", [2], [3])
    assert {"name": "metrics.auc", "a": "0.1", "b": "0.2"} in told["changes"]


# What a program sees of all of it


def test_each_command_answers_a_program(world: Repository) -> None:
    for call in (
        ("list", "churn", "--json"),
        ("search", "metrics.auc>0.5", "--json"),
        ("best", "churn", "auc", "--json"),
        ("plot", "churn", "auc", "--json"),
        ("diff", "churn/1", "churn/2", "--json"),
    ):
        told: Ran = as_process(*call)
        assert (told.code, told.err) == (0, ""), call
        assert told.json
