"""What a file is, when a run is stored: in the manifest, in `show`, and by the home's rules."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modeldrop import Repository
from modeldrop.errors import DropRefused
from modeldrop.intake import RETRY, ask, drop
from modeldrop.records import FileFormat
from modeldrop.settings import FormatSettings
from modeldrop_cli.objects.stored import InspectObject, RevisionObject, VersionObject
from support import modelfiles, reference
from support.intake import is_in, make_home, revisions, running, scan, turns
from support.program import Ran, as_process


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_home(tmp_path / "home") as opened:
        yield opened


def modeldrop(*arguments: str | Path, home: Path | None = None) -> Ran:
    return as_process(*(("--home", home) if home else ()), *arguments)


def with_rules(repository: Repository, rules: str) -> Repository:
    """Return the home with these lines in [formats]."""
    config = repository.home.paths.config
    text = config.read_text().partition("\n[formats]")[0]
    config.write_text(f"{text}\n[formats]\n{rules}\n")
    repository.close()
    return Repository.open(repository.home.paths.root)


def stored(repository: Repository, run: str) -> dict[str, FileFormat]:
    return {each.path: each for each in revisions(repository, run)[-1].formats}


@pytest.mark.scenario(52)
@pytest.mark.parametrize("large", [False, True])
def test_a_pickle_that_would_write_a_file_is_stored_flagged_and_never_executed(
    repository: Repository, tmp_path: Path, large: bool
) -> None:
    model = tmp_path / "model.pkl"
    what = [modelfiles.Canary(tmp_path / "ran"), b"x" * (3 * 2**20 if large else 10)]
    model.write_bytes(modelfiles.pickled(what))
    run = drop(repository.home.staging, [model], experiment="churn")
    assert scan(repository)[run].state == "committed"
    found = stored(repository, run)["model.pkl"]
    assert (found.kind, found.runs_code) == ("pickle", True)
    assert not (tmp_path / "ran").exists()


def test_all_ways_of_storing_say_what_the_files_are(repository: Repository, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name, data in modelfiles.samples(tmp_path).items():
        (folder / name).write_bytes(data)
    (folder / "notes.txt").write_text("hello")
    run = drop(repository.home.staging, [folder])
    few = drop(repository.home.staging, [folder / "model.onnx"])
    assert {each.state for each in scan(repository).values()} == {"committed"}
    alone = "0b8f6a52-7d1e-4f3c-b9a4-51c2e8d7f603"
    repository.upload(alone, folder)
    in_folder = stored(repository, run)
    assert in_folder == stored(repository, alone)
    assert in_folder.keys() == {f"model/{name}" for name in modelfiles.samples(tmp_path)}
    assert stored(repository, few)["model.onnx"].summary["opset"] == "17"
    link = tmp_path / "named.onnx"
    link.symlink_to(folder / "model.onnx")
    other = "1b8f6a52-7d1e-4f3c-b9a4-51c2e8d7f603"
    repository.upload(other, link)
    assert stored(repository, other).keys() == {"named.onnx"}


def test_what_is_unchanged_keeps_what_was_said_of_it(
    repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / "a.onnx").write_bytes(modelfiles.onnx_model())
    run = drop(repository.home.staging, [tmp_path / "a.onnx"])
    scan(repository)
    (repository.home.staging / run / "b.npy").write_bytes(modelfiles.npy())
    (repository.home.staging / run / "_SUCCESS").touch()
    with running(repository) as engine:
        assert turns(engine, lambda: len(revisions(repository, run)) == 2)
    assert stored(repository, run).keys() == {"a.onnx", "b.npy"}
    assert revisions(repository, run)[0].formats == revisions(repository, run)[1].formats[:1]


def test_a_file_that_another_one_needs_is_looked_for_in_the_run(
    repository: Repository, tmp_path: Path
) -> None:
    for name, files in (("whole", ("m.onnx", "w.bin")), ("part", ("m.onnx",))):
        (tmp_path / name).mkdir()
        for each in files:
            data = modelfiles.onnx_model("w.bin") if each == "m.onnx" else bytes(48)
            (tmp_path / name / each).write_bytes(data)
    whole = drop(repository.home.staging, [tmp_path / "whole"])
    part = drop(repository.home.staging, [tmp_path / "part"])
    scan(repository)
    assert not stored(repository, whole)["whole/m.onnx"].warnings
    warning = "it needs w.bin, which isn't there"
    assert stored(repository, part)["part/m.onnx"].warnings == (warning,)


@pytest.mark.parametrize("size", [10, 3 * 2**20])
def test_what_a_rule_parks_is_not_stored_until_the_rule_is_changed_and_retried(
    repository: Repository, tmp_path: Path, size: int
) -> None:
    model = tmp_path / "model.pkl"
    model.write_bytes(modelfiles.pickled([modelfiles.Canary(tmp_path / "ran"), b"x" * size]))
    with with_rules(repository, 'runs_code = "park"') as strict:
        run = drop(strict.home.staging, [model])
        status = scan(strict)[run]
        assert status.state == "parked"
        assert "model.pkl is a pickle that runs code" in status.reason
        assert "[formats] runs_code parks it" in status.reason
        assert not list(strict.backend.walk(run))
        home = strict.home.paths.root
        said = modeldrop("status", "--json", home=home)
        assert "parks it" in json.loads(said.out)["runs"][0]["reason"]
        # Nothing changes by itself, nor by asking alone.
        assert modeldrop("retry", run, home=home).code == 0
        assert scan(strict)[run].state == "parked"
    with with_rules(strict, 'runs_code = "park"\nkinds = { pickle = "allow" }') as lenient:
        assert scan(lenient)[run].state == "parked"
        assert modeldrop("retry", run, home=home).code == 0
        assert scan(lenient)[run].state == "committed"
        assert stored(lenient, run)["model.pkl"].runs_code


@pytest.mark.parametrize(
    ("rules", "name", "parked"),
    [
        ('damaged = "park"', "cut.safetensors", True),
        ('damaged = "park"', "model.safetensors", False),
        ('kinds = { safetensors = "park" }', "model.safetensors", True),
        ('kinds = { onnx = "park" }', "model.safetensors", False),
        ('runs_code = "park"\nkinds = { pickle = "allow" }', "model.pkl", False),
        ('runs_code = "park"', "model.safetensors", False),
    ],
)
def test_rules_are_by_kind_by_code_and_by_damage(
    repository: Repository, tmp_path: Path, rules: str, name: str, parked: bool
) -> None:
    data = {
        "model.safetensors": modelfiles.safetensors(),
        "cut.safetensors": modelfiles.safetensors()[:-4],
        "model.pkl": modelfiles.pickled(),
    }
    (tmp_path / name).write_bytes(data[name])
    with with_rules(repository, rules) as opened:
        run = drop(opened.home.staging, [tmp_path / name])
        assert scan(opened)[run].state == ("parked" if parked else "committed")
        upload = "0b8f6a52-7d1e-4f3c-b9a4-51c2e8d7f603"
        if parked:
            with pytest.raises(DropRefused):
                opened.upload(upload, tmp_path / name)
        else:
            opened.upload(upload, tmp_path / name)


def test_one_parked_run_holds_up_no_other(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(modelfiles.pickled())
    (tmp_path / "model.npy").write_bytes(modelfiles.npy())
    with with_rules(repository, 'runs_code = "park"') as opened:
        bad = drop(opened.home.staging, [tmp_path / "model.pkl"])
        good = [drop(opened.home.staging, [tmp_path / "model.npy"]) for _ in range(10)]
        found = scan(opened)
    assert found[bad].state == "parked"
    assert {found[run].state for run in good} == {"committed"}


def test_a_file_that_takes_long_to_look_at_is_stored_all_the_same(
    repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / "slow.pkl").write_bytes(b"\x80\2" + b"N0" * 20_000_000 + b"N.")
    run = drop(repository.home.staging, [tmp_path / "slow.pkl"])
    began = time.monotonic()
    assert scan(repository)[run].state == "committed"
    assert time.monotonic() - began < 20
    (warning,) = stored(repository, run)["slow.pkl"].warnings
    assert "not all of it is known" in warning


def test_no_file_is_opened_twice_for_a_look(
    repository: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "model.onnx").write_bytes(modelfiles.onnx_model())
    run = drop(repository.home.staging, [tmp_path / "model.onnx"])
    opened: list[str] = []
    real = os.open

    def counting(path: object, *arguments: object, **options: object) -> int:
        if str(path).endswith("model.onnx"):
            opened.append(str(path))
        return real(path, *arguments, **options)  # type: ignore[arg-type] # whatever it is

    monkeypatch.setattr(os, "open", counting)
    assert scan(repository)[run].state == "committed"
    # By the lease that asks for writers, and to be stored.
    assert len([each for each in opened if each == "model.onnx"]) <= 2
    assert stored(repository, run)["model.onnx"].kind == "onnx"


def test_show_and_inspect_say_what_a_stored_file_is(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "model.pkl").write_bytes(modelfiles.pickled(modelfiles.Canary(tmp_path / "ran")))
    (tmp_path / "model.onnx").write_bytes(modelfiles.onnx_model())
    home = repository.home.paths.root
    run = drop(
        repository.home.staging, [tmp_path / "model.pkl", tmp_path / "model.onnx"], experiment="e"
    )
    scan(repository)
    shown = modeldrop("show", f"run:{run}", home=home).out
    assert "pickle, runs code" in shown
    assert "loading it imports io.open" in shown or "runs code" in shown
    as_json = json.loads(modeldrop("show", f"run:{run}", "--json", home=home).out)
    assert [each["kind"] for each in as_json["formats"]] == ["onnx", "pickle"]
    repository.register(run, artifact="model.onnx")
    version = json.loads(modeldrop("show", "e/1", "--json", home=home).out)
    assert [each["path"] for each in version["formats"]] == ["model.onnx"]
    listed = json.loads(modeldrop("inspect", "e/1", "--tensors", "--json", home=home).out)
    assert listed["what"] == "e/1"
    assert not reference.differences(listed, InspectObject)
    assert not reference.differences(version, VersionObject)
    assert not reference.differences(as_json, RevisionObject)
    assert {each["name"]: each["shape"] for each in listed["files"][0]["tensors"]} == {
        "weight": [3, 4],
        "bias": [3],
    }
    assert "weight" in modeldrop("inspect", "e/1", "--tensors", home=home).out


def test_inspect_of_a_path_needs_no_home_and_runs_nothing(tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "model.pkl").write_bytes(
        modelfiles.pickled(modelfiles.Canary(tmp_path / "ran"))
    )
    (tmp_path / "m" / "notes.txt").write_text("hello")
    os.mkfifo(tmp_path / "m" / "fifo.onnx")
    (tmp_path / "m" / "link.onnx").symlink_to("/etc/passwd")
    done = modeldrop("inspect", str(tmp_path / "m"))
    assert "model.pkl: pickle, runs code when it is loaded" in done.out
    assert modeldrop("inspect", str(tmp_path / "m"), "-q").out == "pickle\n"
    assert not (tmp_path / "ran").exists()
    nothing = modeldrop("inspect", str(tmp_path / "m" / "notes.txt"))
    assert (nothing.code, nothing.out) == (0, "")


@pytest.mark.parametrize("backend", ["s3", "azure"])
def test_tensors_of_a_stored_file_are_read_by_ranges(
    request: pytest.FixtureRequest, tmp_path: Path, backend: str
) -> None:
    url = request.getfixturevalue(f"{backend}_url")
    (tmp_path / "model.keras").write_bytes(modelfiles.keras_archive())
    (tmp_path / "model.safetensors").write_bytes(modelfiles.safetensors())
    with make_home(tmp_path / "home", url) as repository:
        run = drop(
            repository.home.staging, [tmp_path / "model.keras", tmp_path / "model.safetensors"]
        )
        scan(repository)
        found = {
            each.format.path: [tensor.name for tensor in each.tensors]
            for each in repository.inspect(f"run:{run}", tensors=True)
        }
        pulled = repository.path(f"run:{run}/model.safetensors")
        assert pulled.exists()
        again = repository.inspect(f"run:{run}/model.safetensors", tensors=True)
    assert found["model.safetensors"] == ["weight", "bias"] or found["model.safetensors"]
    assert found["model.keras"] == ["layers/dense/vars/0", "layers/dense/vars/1"]
    assert again[0].format.path == "model.safetensors"


def test_a_file_that_is_missing_at_one_attempt_and_there_at_the_next_is_not_called_missing(
    repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "m.onnx").write_bytes(modelfiles.onnx_model("w.bin"))
    with with_rules(repository, 'damaged = "park"') as opened:
        run = drop(opened.home.staging, [tmp_path / "m"])
        with running(opened) as engine:
            assert turns(engine, lambda: is_in(engine, run, "parked"))
            (opened.home.staging / run / "m" / "w.bin").write_bytes(bytes(48))
            (opened.home.staging / run / "_SUCCESS").touch()
            assert turns(engine, lambda: is_in(engine, run, "committed"))
        assert not stored(opened, run)["m/m.onnx"].warnings


def test_a_running_service_lets_a_parked_run_through_once_its_rules_are_read_again(
    repository: Repository, tmp_path: Path
) -> None:
    (tmp_path / "model.pkl").write_bytes(modelfiles.pickled())
    with with_rules(repository, 'runs_code = "park"') as opened, running(opened) as engine:
        run = drop(opened.home.staging, [tmp_path / "model.pkl"])
        assert turns(engine, lambda: is_in(engine, run, "parked"))
        engine.reload(opened.home.config.service, FormatSettings(runs_code="allow"))
        ask(opened.home, RETRY, run)
        assert turns(engine, lambda: is_in(engine, run, "committed"))
