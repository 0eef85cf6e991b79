"""What few files have, and what a file may have too much of: told all the same, or said so."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import pytest

from modeldrop.formats import description, hdf5, opcodes, pytorch, standins, ziparchive
from modeldrop.formats.description import DamagedError, Description
from modeldrop.formats.recognition import look
from modeldrop.formats.source import STORING, Bounded, InMemory, Meter
from support import modelfiles
from support.modelfiles import message


def looked(data: bytes, name: str) -> Description | None:
    return look(InMemory(data, name), STORING, tensors=True)


def told(data: bytes, name: str) -> Description:
    found = looked(data, name)
    assert found is not None
    return found


def listed(found: Description) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(each.name, each.dtype, each.shape) for each in found.tensors]


def safetensors_of(header: object, numbers: int = 0) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(numbers)


def archive_of(members: Mapping[str, bytes | str], packing: int = zipfile.ZIP_STORED) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packing) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return out.getvalue()


# safetensors


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        pytest.param(7, "doesn't say what the tensor 'w' is", id="number"),
        pytest.param({"dtype": 4, "shape": [1]}, "doesn't say what", id="no-dtype"),
        pytest.param({"dtype": "F32", "shape": "1"}, "doesn't say what", id="no-shape"),
        pytest.param(
            {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]},
            "doesn't say what",
            id="reversed",
        ),
        pytest.param(
            {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]},
            "another length than its shape",
            id="length",
        ),
        pytest.param(
            {"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]},
            "more elements than any machine can hold",
            id="elements",
        ),
    ],
)
def test_tensor_of_safetensors_that_can_not_be_is_named(entry: object, said: str) -> None:
    found = told(safetensors_of({"w": entry}, 4), "model.safetensors")

    assert found.damaged
    assert said in found.warnings[0]


def test_shard_outside_of_the_folder_is_named_and_not_asked_for() -> None:
    index = {"weight_map": {"a": "../other.safetensors", "b": "1.safetensors"}}

    found = told(json.dumps(index).encode(), "model.safetensors.index.json")

    assert found.needs == ["1.safetensors"]
    assert found.warnings == ["it names a shard outside of its folder: '../other.safetensors'"]


def test_index_that_is_larger_than_is_read_says_so() -> None:
    found = told(b"{" + b" " * 2**23, "model.safetensors.index.json")

    assert "are read" in found.warnings[0]
    assert not found.damaged


def test_of_very_many_shards_and_types_some_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(description, "_MOST_NEEDS", 3)
    index = {"weight_map": {str(each): f"{each}.safetensors" for each in range(9)}}
    assert len(told(json.dumps(index).encode(), "m.safetensors.index.json").needs) == 3

    header = {
        f"w{each}": {"dtype": f"T{each}", "shape": [1], "data_offsets": [0, 4]}
        for each in range(40)
    }
    found = told(safetensors_of(header, 4), "model.safetensors")
    assert found.summary["tensors"] == 40
    assert len(str(found.summary["dtypes"]).split(", ")) < 40


# ONNX and TensorFlow, Protocol Buffers


def onnx_of(*of_graph: tuple[int, int | bytes | str], opset: bytes = b"") -> bytes:
    return message((1, 8), (7, message(*of_graph)), (8, opset or message((2, 17))))


def test_onnx_dimensions_that_are_packed_and_sparse_weights_are_read() -> None:
    packed = message((1, b"\x03\x04"), (2, 1), (8, "weight"))
    sparse = message((1, message((1, 5), (2, 11), (8, "sparse"))), (2, message((1, 5))), (3, 9))

    found = told(onnx_of((5, packed), (15, sparse)), "model.onnx")

    assert listed(found) == [("weight", "float32", (3, 4)), ("sparse", "float64", (5,))]


def test_onnx_tells_the_same_where_there_is_more_than_is_asked_for() -> None:
    more = (20, "nobody asks for this")
    dimension = message(more, (1, 4))
    symbol = message(more, (2, "N"))
    tensor = message(
        (1, 1), (7, "more"), (2, message((1, dimension), (1, symbol), (1, message(more))))
    )
    port = message(more, (1, "x"), (2, message((1, 7), (1, tensor))))
    entry = message((1, "offset"), (2, "0"), more)
    weight = message((1, 2), (2, 1), (8, "w"), (13, entry))

    found = told(
        onnx_of((5, weight), (11, port), (3, 7), more, opset=message((1, "ai.x"), (2, 3), more)),
        "model.onnx",
    )

    assert found.summary["opset"] == "ai.x 3"
    assert found.summary["inputs"] == "x: float32[4, N, ?]"
    assert listed(found) == [("w", "float32", (2,))]


def test_onnx_ports_of_no_type_that_is_known_are_named_alone() -> None:
    nothing = message((1, "a"), (2, message((1, 7))))
    sequence = message((1, "b"), (2, message((4, message((1, 1))))))
    odd = message((1, "c"), (2, message((1, message((1, 99), (2, message((1, 3))))))))

    found = told(onnx_of((12, nothing), (12, sequence), (12, odd)), "model.onnx")

    assert found.summary["outputs"] == "a, b: sequence, c: type 99[?]"


def test_onnx_with_hundreds_of_ports_and_dimensions_is_told_within_bounds() -> None:
    ports = [(12, message((1, f"y{each}"))) for each in range(50)]
    found = told(onnx_of(*ports), "model.onnx")
    assert str(found.summary["outputs"]).count("y") == 20

    endless = message((1, b"\x01" * 5000), (2, 1), (8, "w"))
    found = told(onnx_of((5, endless)), "model.onnx")
    assert found.damaged
    assert "dimensions" in found.warnings[0]


def test_tensorflow_operation_in_a_function_reaches_out_as_well() -> None:
    node = message((1, "op"), (2, "PyFunc"))
    library = message((1, message((3, node), (1, message((1, "f"))))), (2, message((1, "g"))))
    graph = message((2, message((2, library), (4, message((1, 7))))))

    found = told(message((1, 1), (2, graph)), "saved_model.pb")

    assert found.runs_code
    assert found.warnings == ["it reaches out of the model when it is used: PyFunc"]


def test_tensorflow_tells_the_same_where_there_is_more_than_is_asked_for() -> None:
    more = (20, "nobody asks for this")
    plain = told(modelfiles.saved_model(), "saved_model.pb")
    port = message((1, "x"), more, (2, message((2, 1), more)))
    signature = message(more, (1, "s"), (2, message((1, port), more)), (3, 7))
    graph = message(more, (3, 7), (1, message((4, "serve"), (5, "2.19.0"), more)), (5, signature))

    found = told(message((1, 1), more, (2, graph)), "saved_model.pb")

    assert plain.summary["tensorflow_version"] == found.summary["tensorflow_version"]
    assert (found.summary["signatures"], found.summary["inputs"]) == ("s", "x: float32")


def test_tensorflow_of_hundreds_of_ports_is_told_within_bounds() -> None:
    wide = message(*[(2, message((1, 1)))] * 40)
    ports = [(1, message((1, f"x{each}"), (2, message((2, 1), (3, wide))))) for each in range(40)]
    signatures = [(5, message((1, f"s{each}"), (2, message(*ports)))) for each in range(40)]

    found = told(message((1, 1), (2, message(*signatures))), "saved_model.pb")

    assert str(found.summary["signatures"]).count("s") == 20
    assert len(str(found.summary["inputs"])) < 2000


# PyTorch: pickles by hand, protocol 2


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def numbers(*values: int) -> bytes:
    return b"(" + b"".join(b"K" + bytes([each]) for each in values) + b"t"


def storage(key: bytes = text("0"), count: bytes = b"K\x0c", kind: str = "FloatStorage") -> bytes:
    named = b"(" + text("storage") + f"ctorch\n{kind}\n".encode()
    return named + key + text("cpu") + count + b"tQ"


def tensor(stored: bytes, shape: bytes, more: bytes = b"", by: str = "_rebuild_tensor_v2") -> bytes:
    inner = stored + b"K\0" + shape + numbers(4, 1) + b"\x89N" + more
    return f"ctorch._utils\n{by}\n".encode() + b"(" + inner + b"tR"


def saved(value: bytes, name: str = "w", more: Mapping[str, bytes] | None = None) -> bytes:
    state = b"\x80\x02}" + text(name) + value + b"s."
    return archive_of({"m/data.pkl": state, "m/data/0": bytes(48), **(more or {})})


def test_tensor_that_names_its_own_type_has_that() -> None:
    own = tensor(
        storage(kind="UntypedStorage"),
        numbers(3, 4),
        b"ctorch\nfloat8_e4m3fn\n",
        "_rebuild_tensor_v3",
    )

    found = told(saved(own), "model.pt")

    assert listed(found) == [("w", "float8_e4m3fn", (3, 4))]
    assert not found.runs_code


def test_shape_of_a_tensor_may_be_a_size_of_pytorchs() -> None:
    size = b"ctorch\nSize\n(" + numbers(3, 4) + b"tR"

    assert listed(told(saved(tensor(storage(), size)), "model.pt")) == [("w", "float32", (3, 4))]


def test_tensor_whose_shape_has_no_numbers_is_damage() -> None:
    found = told(saved(tensor(storage(), b"(" + text("three") + b"t")), "model.pt")

    assert found.damaged
    assert "has no shape" in found.warnings[0]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(tensor(b"N", numbers(3, 4)), id="no-storage"),
        pytest.param(tensor(storage(), b"N"), id="no-shape"),
    ],
)
def test_what_only_looks_like_a_tensor_is_counted_as_none(value: bytes) -> None:
    found = told(saved(value), "model.pt")

    assert listed(found) == []
    assert not found.damaged


def test_tensor_of_a_storage_that_says_little_is_told_without_type() -> None:
    short = b"(" + text("storage") + b"tQ"
    assert listed(told(saved(tensor(short, numbers(3, 4))), "m.pt")) == [("w", "?", (3, 4))]
    # A key that is no text names no bytes that could be missing.
    odd = told(saved(tensor(storage(key=b"K\x07"), numbers(3, 4))), "m.pt")
    assert listed(odd) == [("w", "float32", (3, 4))]
    assert not odd.damaged


def test_parameters_of_a_module_are_named_as_in_a_state_dict() -> None:
    inner = b"}" + text("weight") + tensor(storage(), numbers(3, 4)) + b"s"

    assert listed(told(saved(inner, "_parameters"), "m.pt")) == [("weight", "float32", (3, 4))]


def test_torchscript_runs_its_own_program() -> None:
    found = told(saved(tensor(storage(), numbers(3, 4)), more={"m/code/net.py": b""}), "model.pt")

    assert found.runs_code
    assert found.summary["layout"] == "TorchScript"


def test_tensors_beyond_what_is_looked_at_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytorch, "_MOST_VISITS", 2)

    found = told(modelfiles.pytorch(), "model.pt")

    assert "not all of its tensors are listed" in found.warnings


# Other pickles


def test_pickle_with_buffers_of_others_is_followed_past_them() -> None:
    found = told(b"\x80\x05(\x97\x98\x97cos\nsystem\nt.", "model.pkl")

    assert "os.system" in str(found.summary["imports"])


def test_number_of_thousands_of_digits_is_passed_over() -> None:
    found = told(
        b"\x80\x02(\x8b" + struct.pack("<i", 5000) + bytes(5000) + b"cos\nsystem\nt.", "m.pkl"
    )

    assert "os.system" in str(found.summary["imports"])


def test_imports_that_are_called_with_keywords_are_seen() -> None:
    found = told(b"\x80\x04cos\nsystem\n)}\x92.", "model.pkl")

    assert "os.system" in str(found.summary["imports"])


def test_of_very_many_imports_the_number_is_told() -> None:
    names = b"".join(f"cbuiltins\nname{each}\n".encode() for each in range(60))

    found = told(b"\x80\x02(" + names + b"t.", "model.pkl")

    assert found.summary["imports_in_all"] == 60
    assert "name59" not in str(found.summary["imports"])


def test_more_than_is_kept_of_a_pickle_is_counted_no_further(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for module in (standins, opcodes):
        monkeypatch.setattr(module, "MOST_ITEMS", 2)
    whole = modelfiles.joblib_file(
        tmp_path / "m", {"a": [np.zeros(2)] * 9, **{str(each): np.zeros(3) for each in range(9)}}
    )

    found = told(whole, "model.joblib")

    assert not found.damaged
    assert found.kind == "joblib"


def test_type_of_an_array_that_is_no_text_is_no_failure() -> None:
    odd = b"\x80\x02cnumpy\ndtype\n(K\x04K\x00K\x01tR."

    found = told(odd, "model.pkl")

    assert not [each for each in found.warnings if "failed" in each]


def test_what_follows_a_packed_pickle_is_looked_through_to_its_end() -> None:
    packed = gzip.compress(b"\x80\x02}." + bytes(300_000))

    assert not told(packed, "model.pkl").damaged
    assert told(packed[:-4], "model.pkl").damaged


# NumPy


def npy_of(shape: str, descr: str = "<f4", data: bytes = b"") -> bytes:
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + data


def test_array_larger_than_any_machine_is_damage() -> None:
    assert told(npy_of(f"({'1' * 19},)"), "array.npy").damaged


@pytest.mark.parametrize(
    ("descr", "size"),
    [pytest.param("|b1", 1, id="b1"), pytest.param("?", 1, id="bool"), ("<M8[s]", 8)],
)
def test_array_of_switches_or_times_that_is_cut_off_is_seen(descr: str, size: int) -> None:
    assert not told(npy_of("(3,)", descr, bytes(3 * size)), "array.npy").damaged
    assert told(npy_of("(3,)", descr, bytes(3 * size - 1)), "array.npy").damaged


def test_array_of_an_archive_that_is_shorter_than_its_shape_is_named() -> None:
    found = told(archive_of({"a.npy": npy_of("(3,)", data=b"1234")}), "arrays.npz")

    assert found.damaged
    assert found.warnings == ["a.npy is shorter than its shape needs"]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed], ids=lambda each: each.__name__)
def test_objects_in_an_archive_are_a_pickle_too(save: Callable[..., None]) -> None:
    out = io.BytesIO()
    save(out, a=np.array([Path("x"), "y" * 300_000], dtype=object))

    found = told(out.getvalue(), "arrays.npz")

    assert found.runs_code
    assert "pathlib" in str(found.summary["imports"])


def test_objects_that_are_packed_and_too_large_are_said_to_run_code() -> None:
    out = io.BytesIO()
    np.savez_compressed(out, a=np.array(["y" * 5 * 2**20], dtype=object))

    found = told(out.getvalue(), "arrays.npz")

    assert found.runs_code
    assert "isn't looked into" in found.warnings[0]


# Zip archives


def test_archive_in_the_form_for_more_than_4_gib_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = archive_of({"a.npy": modelfiles.npy(), "b.npy": modelfiles.npy()})
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 10)
    large = archive_of({"a.npy": modelfiles.npy(), "b.npy": modelfiles.npy()})
    assert b"PK\x06\x07" in large

    assert listed(told(large, "a.npz")) == listed(told(plain, "a.npz")) != []


def test_table_of_contents_that_is_cut_off_is_damage() -> None:
    whole = bytearray(archive_of({"a.npy": modelfiles.npy()}))
    end = whole.rindex(b"PK\x05\x06")
    whole[end + 12 : end + 16] = struct.pack("<I", 20)

    found = told(bytes(whole), "a.npz")

    assert found.warnings == ["its table of contents is cut off"]


def test_members_beyond_what_is_read_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ziparchive, "_MOST_ENTRIES", 2)

    found = told(archive_of({f"{each}.npy": b"" for each in range(4)}), "a.npz")

    assert "more than 2 members" in found.warnings[0]


def test_member_that_is_not_there_is_damage() -> None:
    data = archive_of({"a": b"1"})
    archive = ziparchive.Archive(Bounded(InMemory(data, "a.zip"), Meter(STORING)))

    with pytest.raises(DamagedError, match="it has no b"):
        archive.open("b", 10)


# Keras and HDF5


def keras_of(config: object, more: Mapping[str, bytes], packing: int = zipfile.ZIP_STORED) -> bytes:
    said = {"metadata.json": "{}", "config.json": json.dumps(config)}
    return archive_of({**said, **more}, packing)


def test_weights_of_keras_that_are_packed_or_missing_are_said() -> None:
    config = modelfiles.keras_config()
    weights = {"model.weights.h5": modelfiles.hdf5()}

    packed = told(keras_of(config, weights, zipfile.ZIP_DEFLATED), "model.keras")
    assert packed.warnings == ["its weights are packed, and aren't listed"]
    missing = told(keras_of(config, {}), "model.keras")
    assert missing.damaged
    assert missing.warnings == ["it has no model.weights.h5"]


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        pytest.param({"class_name": "Net", "module": "my.layers"}, "my.layers.Net", id="module"),
        pytest.param({"class_name": "Net", "registered_name": "my>Net"}, "my>Net", id="registered"),
    ],
)
def test_code_that_keras_does_not_have_is_named(layer: dict[str, object], named: str) -> None:
    config = {"class_name": "Sequential", "config": {"layers": [layer]}}

    found = told(keras_of(config, {"model.weights.h5": modelfiles.hdf5()}), "model.keras")

    assert found.warnings == [f"it needs code that isn't Keras's: {named}"]


def hdf5_of(fill: Callable[[h5py.File], None], **options: object) -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w", **options) as file:
        fill(file)
    return out.getvalue()


def test_data_sets_of_whole_numbers_and_those_with_two_names_are_listed_once() -> None:
    def fill(file: h5py.File) -> None:
        file.attrs["count"] = np.int32(3)
        file.attrs["many"] = [1.0, 2.0]
        file["a"] = np.zeros(2, dtype=np.int16)
        file["b"] = np.zeros(3, dtype=np.uint8)
        file["c"] = file["a"]

    found = told(hdf5_of(fill), "data.h5")

    assert listed(found) == [("a", "int16", (2,)), ("b", "uint8", (3,))]


def test_text_of_a_fixed_length_is_read_as_well() -> None:
    data = hdf5_of(lambda file: file.attrs.update({"keras_version": np.bytes_("2.1")}))

    assert told(data, "model.h5").summary["keras_version"] == "2.1"


def test_configuration_of_keras_that_is_none_is_damage() -> None:
    found = told(modelfiles.hdf5({"model_config": "[nonsense"}), "model.h5")

    assert found.damaged
    assert found.warnings == ["its model_config is no JSON object"]


@pytest.mark.parametrize(
    ("at", "said"),
    [
        pytest.param(0, "there is no text at byte", id="heap"),
        pytest.param(16, "a text is missing", id="text"),
    ],
)
def test_text_that_is_lost_is_damage(at: int, said: str) -> None:
    data = bytearray(hdf5_of(lambda file: file.attrs.update({"keras_version": "3"})))
    heap = data.index(b"GCOL")
    data[heap + at : heap + at + 2] = b"\0\0"

    found = told(bytes(data), "model.h5")

    assert found.damaged
    assert said in found.warnings[0]


def test_object_with_more_messages_than_are_read_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "_MOST_MESSAGES", 1)

    found = told(modelfiles.hdf5({"a": "b", "c": "d"}), "model.h5")

    assert "more than 1 messages" in found.warnings[0]


# GGUF, Universal Binary JSON, and what is text


def gguf_of(version: bytes, *keys: bytes, width: str = "Q") -> bytes:
    return b"GGUF" + version + struct.pack(f"<{width}{width}", 0, len(keys)) + b"".join(keys)


def gguf_key(name: str, kind: int, value: bytes, width: str = "Q") -> bytes:
    return struct.pack(f"<{width}", len(name)) + name.encode() + struct.pack("<I", kind) + value


def test_gguf_of_a_version_to_come_is_not_guessed_at() -> None:
    found = told(gguf_of(struct.pack("<I", 77)), "model.gguf")

    assert "which isn't known" in found.warnings[0]


def test_gguf_of_a_machine_with_the_other_order_of_bytes_is_read() -> None:
    found = told(b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "model.gguf")

    assert found.summary == {"format_version": 3}


def test_gguf_of_the_first_version_is_read() -> None:
    key = gguf_key("general.name", 8, struct.pack("<I", 4) + b"tiny", "I")

    found = told(gguf_of(struct.pack("<I", 1), key, width="I"), "model.gguf")

    assert found.summary == {"format_version": 1, "name": "tiny"}


def test_gguf_tells_its_blocks_and_passes_over_what_is_too_much() -> None:
    keys = [
        gguf_key("llama.block_count", 4, struct.pack("<I", 32)),
        gguf_key("llama.context_length", 10, struct.pack("<Q", 2**60)),
        gguf_key("llama.rope", 6, struct.pack("<f", 1.5)),
        gguf_key("general.name", 8, struct.pack("<Q", 2**20 + 1) + bytes(2**20 + 1)),
    ]

    found = told(gguf_of(struct.pack("<I", 3), *keys), "model.gguf")

    assert found.summary == {"format_version": 3, "blocks": 32}
    assert found.warnings == []


def test_ubjson_that_goes_on_is_nested_without_end_or_is_no_model_is_told_apart() -> None:
    whole = modelfiles.xgboost_ubjson()
    assert "it goes on after its end" in told(whole + b"Z", "model.ubj").warnings[0]

    deep: object = 1
    for _ in range(80):
        deep = {"a": deep}
    nested = modelfiles.ubjson({"learner": deep})
    assert "nested more than 64 deep" in told(nested, "model.ubj").warnings[0]

    assert looked(modelfiles.ubjson({"learner": {"a": "b" * 100_000}}), "model.ubj") is None


def test_lightgbm_as_json() -> None:
    model = {
        "name": "tree",
        "version": "v4",
        "num_class": 1,
        "max_feature_idx": 3,
        "objective": "binary sigmoid:1",
        "tree_info": [],
    }
    data = json.dumps(model).encode()

    found = told(data, "model.json")

    assert (found.kind, found.damaged) == ("lightgbm", False)
    assert found.summary == {
        "layout": "json",
        "format_version": "v4",
        "objective": "binary sigmoid:1",
        "classes": 1,
        "features": 4,
    }
    assert told(data[:-3], "model.json").damaged
    assert told(b'{"name": "tree", "version": "v4"}', "model.json").summary == {
        "layout": "json",
        "format_version": "v4",
    }


def test_mlflow_model_of_ones_own_class_runs_code_and_a_huge_one_is_none() -> None:
    flavor = b"flavors:\n  python_function:\n    loader_module: mlflow.pyfunc.model\n"

    assert told(flavor, "MLmodel").runs_code
    assert looked(flavor + b"#" * 2**20, "MLmodel") is None


def test_hugging_face_configuration_without_anything_known_says_so() -> None:
    assert told(modelfiles.huggingface(architectures="Llama"), "config.json").summary["model_type"]

    found = told(b'{"model_type": 7}', "config.json")

    assert "nothing in it is of a form that is known" in found.warnings[0]


def test_other_files_named_as_tensorflows_are_of_no_kind_elsewhere() -> None:
    assert looked(modelfiles.saved_model(), "frozen.pb") is None


# The file itself


@dataclass
class Shrunk:
    """A file that got shorter after its size was asked for."""

    name: str
    size: int

    def read(self, offset: int, count: int) -> bytes:
        return modelfiles.npy()[offset : offset + min(count, 40)]


def test_a_file_that_got_shorter_while_it_was_looked_at_is_damaged() -> None:
    found = look(Shrunk("array.npy", len(modelfiles.npy())), STORING)

    assert found is not None
    assert found.damaged
    assert "it is cut off" in found.warnings[0]


def test_the_same_warning_is_told_once() -> None:
    layers = [{"class_name": "Lambda", "config": {}} for _ in range(3)]
    config = {"class_name": "Sequential", "config": {"layers": layers}}

    found = told(keras_of(config, {"model.weights.h5": modelfiles.hdf5()}), "model.keras")

    assert found.warnings == ["it has a Lambda layer, which may bring code along"]
