"""What a file is, told from its header: on files that each format's own library made."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from modeldrop.formats import KINDS
from modeldrop.formats.description import Description
from modeldrop.formats.recognition import HEAD, look, recognise
from modeldrop.formats.source import STORING, InMemory
from modeldrop.inspecting import inspect_path
from support import modelfiles


def looked(data: bytes, name: str, *, tensors: bool = True) -> Description | None:
    return look(InMemory(data, name), STORING, tensors=tensors)


def told(data: bytes, name: str) -> Description:
    found = looked(data, name)
    assert found is not None
    return found


def shapes(found: Description) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {each.name: (each.dtype, each.shape) for each in found.tensors}


def test_every_kind_is_in_the_samples_and_whole(tmp_path: Path) -> None:
    found = {name: told(data, name) for name, data in modelfiles.samples(tmp_path).items()}
    assert {each.kind for each in found.values()} == KINDS.keys()
    assert {name: each.warnings for name, each in found.items() if each.warnings} == {}
    assert not any(each.damaged for each in found.values())


def test_a_name_is_not_needed_where_the_bytes_say_enough(tmp_path: Path) -> None:
    nameless = {
        name: looked(data, "weights")
        for name, data in modelfiles.samples(tmp_path).items()
        if name not in ("MLmodel", "config.json", "old.pkl")
    }
    named = {name: told(data, name) for name, data in modelfiles.samples(tmp_path).items()}
    kinds = {name: each.kind if each else None for name, each in nameless.items()}
    expected = {name: named[name].kind for name in nameless}
    # Both begin with a small number and a text; only its name tells a SavedModel.
    assert kinds | {"saved_model.pb": "tensorflow"} == expected


def test_safetensors() -> None:
    found = told(modelfiles.safetensors(), "model.safetensors")
    assert found.kind == "safetensors"
    assert not found.runs_code
    assert found.summary == {"format": "np", "tensors": 2, "parameters": 15, "dtypes": "F32"}
    assert shapes(found) == {"weight": ("F32", (3, 4)), "bias": ("F32", (3,))}


def test_shards_that_are_not_there_are_named() -> None:
    index = {"metadata": {}, "weight_map": {"a": "1.safetensors", "b": "2.safetensors"}}
    found = told(json.dumps(index).encode(), "sub/model.safetensors.index.json")
    found.hold_against("sub/model.safetensors.index.json", {"sub/1.safetensors"}.__contains__)
    assert found.warnings == ["it needs 2.safetensors, which isn't there"]
    assert found.damaged


def test_onnx() -> None:
    found = told(modelfiles.onnx_model(), "model.onnx")
    assert found.kind == "onnx"
    assert found.summary["opset"] == "17"
    assert found.summary["producer"] == "tests"
    assert found.summary["inputs"] == "x: float32[N, 4]"
    assert found.summary["outputs"] == "y: float32[N, 3]"
    assert (found.summary["tensors"], found.summary["parameters"]) == (2, 15)
    assert shapes(found) == {"weight": ("float32", (3, 4)), "bias": ("float32", (3,))}


@pytest.mark.parametrize(
    ("location", "says"),
    [
        ("weights.bin", "it needs weights.bin, which isn't there"),
        ("../../etc/passwd", "its data is said to be outside of its folder"),
        ("/etc/passwd", "its data is said to be outside of its folder"),
    ],
)
def test_external_data_of_onnx_that_is_missing_or_outside_is_named(
    location: str, says: str
) -> None:
    found = told(modelfiles.onnx_model(location), "m/model.onnx")
    found.hold_against("m/model.onnx", {"m/model.onnx"}.__contains__)
    assert [each for each in found.warnings if says in each]
    found = told(modelfiles.onnx_model("weights.bin"), "m/model.onnx")
    found.hold_against("m/model.onnx", {"m/model.onnx", "m/weights.bin"}.__contains__)
    assert not found.warnings


def test_external_data_beside_a_file_on_this_machine_is_found(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(modelfiles.onnx_model("weights.bin"))
    (missing,) = inspect_path(tmp_path / "model.onnx")
    assert missing.format.warnings == ("it needs weights.bin, which isn't there",)
    (tmp_path / "weights.bin").touch()
    (found,) = inspect_path(tmp_path / "model.onnx")
    assert found.format.warnings == ()


def test_gguf() -> None:
    found = told(modelfiles.gguf(), "model.gguf")
    assert found.summary == {
        "format_version": 3,
        "architecture": "llama",
        "context_length": 2048,
        "tensors": 2,
        "parameters": 15,
        "dtypes": "F32",
    }
    assert shapes(found)["token_embd.weight"] == ("F32", (3, 4))


def test_gguf_knows_the_size_of_every_type_that_its_library_knows() -> None:
    gguf = pytest.importorskip("gguf")
    from modeldrop.formats.gguf import _TYPES  # noqa: PLC0415 - beside what it is compared with

    theirs = {
        int(kind): (kind.name, *sizes)
        for kind, sizes in gguf.GGML_QUANT_SIZES.items()
        if int(kind) in _TYPES
    }
    assert {kind: _TYPES[kind] for kind in theirs} == theirs


def test_mlmodel() -> None:
    found = told(modelfiles.MLMODEL, "model/MLmodel")
    assert found.kind == "mlmodel"
    assert found.runs_code
    assert found.summary["flavors"] == "python_function, sklearn"
    assert found.summary["run_id"] == "5d41402abc4b2a76b9719d911017c592"


def test_hugging_face_configuration_with_code_is_flagged() -> None:
    plain = told(modelfiles.huggingface(), "config.json")
    assert not plain.runs_code
    assert plain.summary["architectures"] == "LlamaForCausalLM"
    custom = told(modelfiles.huggingface(auto_map={"AutoModel": "modeling.Mine"}), "config.json")
    assert custom.runs_code
    assert custom.summary["auto_map"] == "modeling.Mine"
    assert looked(b'{"debug": true}', "config.json") is None


def test_keras_lists_its_weights_and_flags_what_brings_code_along() -> None:
    plain = told(modelfiles.keras_archive(), "model.keras")
    assert (plain.kind, plain.runs_code) == ("keras", False)
    assert plain.summary["keras_version"] == "3.12.0"
    assert shapes(plain)["layers/dense/vars/0"] == ("float32", (3, 4))
    function = {"class_name": "__lambda__", "config": {"code": "4wAAAA=="}}
    config = modelfiles.keras_config("Lambda", function=function)
    assert told(modelfiles.keras_archive(config), "model.keras").runs_code
    old = modelfiles.hdf5({"keras_version": "2.15.0", "model_config": json.dumps(config)})
    assert told(old, "model.h5").runs_code


@pytest.mark.parametrize("options", [{}, {"libver": "latest"}, {"track_order": True}])
def test_hdf5_is_read_as_h5py_writes_it(options: dict[str, object]) -> None:
    found = told(modelfiles.hdf5({"title": "x" * 3000}, **options), "data.hdf5")
    assert found.kind == "hdf5"
    assert shapes(found) == {
        "layers/dense/vars/0": ("float32", (3, 4)),
        "layers/dense/vars/1": ("float32", (3,)),
    }


def test_hdf5_with_hundreds_of_members_in_a_group(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(tmp_path / "many.h5", "w") as file:
        for number in range(500):
            file.create_dataset(f"layer_{number}", data=modelfiles.BIAS)
    found = told((tmp_path / "many.h5").read_bytes(), "many.h5")
    assert len(found.tensors) == 500


@pytest.mark.parametrize(
    ("array", "dtype", "shape"),
    [
        (modelfiles.WEIGHT, "<f4", "(3, 4)"),
        (np.zeros((), np.int64), "<i8", "()"),
        (np.array(["a", "bcd"]), "<U3", "(2)"),
        (np.zeros(2, [("a", "<i4"), ("b", "<f8")]), "structured", "(2)"),
        (np.asfortranarray(modelfiles.WEIGHT), "<f4", "(3, 4)"),
    ],
)
def test_numpy_array(array: npt.ArrayLike, dtype: str, shape: str) -> None:
    found = told(modelfiles.npy(array), "array.npy")
    assert (found.summary["dtype"], found.summary["shape"]) == (dtype, shape)
    assert not found.runs_code
    assert not found.warnings


def test_numpy_objects_are_a_pickle(tmp_path: Path) -> None:
    plain = told(modelfiles.npy(np.array(["a", None], object)), "array.npy")
    assert not plain.runs_code
    canary = np.array([modelfiles.Canary(tmp_path / "ran")], object)
    found = told(modelfiles.npy(canary), "array.npy")
    assert found.runs_code
    assert "io.open" in str(found.summary["imports"])
    assert not (tmp_path / "ran").exists()


def test_numpy_archive() -> None:
    for packed in (False, True):
        found = told(modelfiles.npz(packed=packed), "arrays.npz")
        assert shapes(found) == {"weight": ("<f4", (3, 4)), "bias": ("<f4", (3,))}


@pytest.mark.parametrize("protocol", range(6))
def test_pickle_of_every_protocol_names_what_it_imports(protocol: int) -> None:
    found = told(modelfiles.pickled(protocol=protocol), "model.pkl")
    assert (found.kind, found.runs_code) == ("pickle", True)
    assert "sklearn.linear_model._logistic.LogisticRegression" in str(found.summary["imports"])
    assert not found.warnings


@pytest.mark.parametrize("protocol", range(6))
def test_pickle_of_plain_data_runs_no_code(protocol: int) -> None:
    plain = {"a": [1, 2.5, None], "b": {"c": (True, b"x" * 5000, 2**70)}, "d": {1, 2}, "e": 1j}
    found = told(modelfiles.pickled(plain, protocol), "plain.pkl")
    assert not found.runs_code, found.summary
    assert not found.warnings


@pytest.mark.parametrize(
    "compress", [0, 3, ("gzip", 3), ("bz2", 3), ("xz", 3), ("lzma", 3)], ids=str
)
def test_joblib_is_followed_past_its_arrays(tmp_path: Path, compress: object) -> None:
    what = {
        "big": np.arange(300_000.0),
        "text": np.array(["a", "bcd"]),
        "objects": np.array(["a", None], object),
        "order": np.asfortranarray(modelfiles.WEIGHT),
        "model": modelfiles.trained(),
    }
    found = told(modelfiles.joblib_file(tmp_path / "f", what, compress), "model.joblib")
    assert (found.kind, found.runs_code) == ("joblib", True)
    assert not found.warnings
    assert "sklearn.linear_model._logistic.LogisticRegression" in str(found.summary["imports"])
    assert (300_000,) in [each.shape for each in found.tensors]


def test_joblib_of_arrays_alone_runs_no_code(tmp_path: Path) -> None:
    data = modelfiles.joblib_file(tmp_path / "f", {"weight": modelfiles.WEIGHT})
    found = told(data, "arrays.joblib")
    assert not found.runs_code, found.summary


def test_state_dict_of_pytorch_runs_no_code_and_anything_else_does(tmp_path: Path) -> None:
    for data in (modelfiles.pytorch(), modelfiles.pytorch_legacy()):
        found = told(data, "model.pt")
        assert (found.kind, found.runs_code) == ("pytorch", False)
        assert shapes(found) == {
            "layer.weight": ("float32", (3, 4)),
            "layer.bias": ("float32", (3,)),
        }
        assert not found.warnings
    assert told(modelfiles.pytorch(modelfiles.trained()), "model.pt").runs_code
    canary = told(modelfiles.pytorch(modelfiles.Canary(tmp_path / "ran")), "model.pt")
    assert canary.runs_code
    assert not (tmp_path / "ran").exists()


def test_saved_model_of_tensorflow() -> None:
    found = told(modelfiles.saved_model(), "model/saved_model.pb")
    assert (found.kind, found.runs_code) == ("tensorflow", False)
    assert found.summary["tensorflow_version"] == "2.19.0"
    assert found.summary["signatures"] == "serving_default"
    assert found.summary["inputs"] == "x: float32[?, 4]"
    assert told(modelfiles.saved_model("WriteFile"), "saved_model.pb").runs_code


def test_xgboost_says_the_same_in_both_forms() -> None:
    json_form = told(modelfiles.xgboost_json(), "model.json").summary
    ubj_form = told(modelfiles.xgboost_ubjson(), "model.ubj").summary
    expected = {
        "xgboost_version": "3.1.0",
        "objective": "binary:logistic",
        "booster": "gbtree",
        "features": 4,
        "classes": 0,
        "base_score": "5E-1",
        "trees": 2,
    }
    assert json_form == {"layout": "json", **expected}
    assert ubj_form == {"layout": "ubj", **expected}


def test_lightgbm_as_text() -> None:
    found = told(modelfiles.lightgbm_text(), "model.txt")
    assert found.summary == {
        "layout": "text",
        "format_version": "v4",
        "classes": 1,
        "objective": "binary sigmoid:1",
        "features": 4,
        "trees": 1,
    }


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"", "empty"),
        (b"hello\n" * 1000, "notes.txt"),
        (b'{"a": 1}', "metrics.json"),
        (b"\x80\x04 not a pickle at all", "blob"),
        (b"\x08\x01\x12\x05hello", "blob"),
        (b"tree of life\n", "tree.txt"),
        (b"column\nvalue\n1\n", "data.csv"),
        (b"PK\x05\x06" + bytes(18), "empty.zip"),
        (struct.pack("<Q", 3) + b"{}x", "blob"),
    ],
)
def test_what_only_begins_like_a_model_is_of_no_kind(data: bytes, name: str) -> None:
    assert looked(data, name) is None


def test_an_empty_file_with_a_models_name_is_damaged() -> None:
    for name in ("a.safetensors", "a.onnx", "a.gguf", "a.npy", "a.npz", "a.keras", "a.pkl"):
        assert told(b"", name).damaged, name


def test_a_text_of_a_file_can_not_drive_a_terminal_or_fill_a_record() -> None:
    found = told(modelfiles.huggingface(model_type="\x1b]0;x\a" + "x" * 10_000), "config.json")
    assert "\x1b" not in str(found.summary)
    assert len(str(found.summary["model_type"])) < 400


def test_unknown_bytes_cost_next_to_nothing() -> None:
    heads = [bytes([first]) + bytes(range(255)) * 2 for first in range(0, 256, 5)]
    names = ["data/part-0001.parquet", "notes.txt", "weights", "events.out.tfevents.1"]
    recognise(heads[0][:HEAD], names[0])
    best = min(_timed(heads, names) for _ in range(5))
    # The bar is 20 microseconds for a file; tests allow ten times.
    assert best < 200e-6


def _timed(heads: list[bytes], names: list[str]) -> float:
    began = time.perf_counter()
    for name in names:
        for head in heads:
            recognise(head, name)
    return (time.perf_counter() - began) / (len(heads) * len(names))
