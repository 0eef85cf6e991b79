"""Small files of every format, as their own libraries write them.

Libraries that are heavy (torch, TensorFlow, Keras) are stood in for by hand here: the bytes are
those that they write, made without them. `make test-formats` holds the readers against the
libraries themselves.
"""

from __future__ import annotations

import io
import json
import pickle
import struct
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import save as save_safetensors
from sklearn.linear_model import LogisticRegression

WEIGHT = np.arange(12, dtype=np.float32).reshape(3, 4)
BIAS = np.zeros(3, dtype=np.float32)


def safetensors() -> bytes:
    """Return two tensors in safetensors."""
    return bytes(save_safetensors({"weight": WEIGHT, "bias": BIAS}, {"format": "np"}))


def onnx_model(external: str | None = None) -> bytes:
    """Return a linear model; its weight is in another file, if that is named."""
    weight = numpy_helper.from_array(WEIGHT, "weight")
    if external:
        onnx.external_data_helper.set_external_data(weight, external, length=WEIGHT.nbytes)
        weight.ClearField("raw_data")
        weight.data_location = TensorProto.EXTERNAL
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "weight", "bias"], ["y"], transB=1)],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", 3])],
        [weight, numpy_helper.from_array(BIAS, "bias")],
    )
    model = helper.make_model(
        graph, producer_name="tests", opset_imports=[helper.make_opsetid("", 17)]
    )
    return bytes(model.SerializeToString())


def npy(array: npt.ArrayLike = WEIGHT) -> bytes:
    """Return an array in NumPy's format."""
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def npz(*, packed: bool = False) -> bytes:
    """Return two arrays in an archive."""
    out = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(out, weight=WEIGHT, bias=BIAS)
    return out.getvalue()


def trained() -> LogisticRegression:
    """Return a fitted model of scikit-learn."""
    return LogisticRegression().fit(WEIGHT, [0, 1, 1])


def pickled(what: object = None, protocol: int = pickle.DEFAULT_PROTOCOL) -> bytes:
    """Return a pickle; of a fitted model, if nothing else is given."""
    return pickle.dumps(trained() if what is None else what, protocol)


def joblib_file(path: Path, what: object = None, compress: object = 0) -> bytes:
    """Return a joblib file, which is written to `path`."""
    joblib.dump(trained() if what is None else what, path, compress=compress)
    return path.read_bytes()


class Canary:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return open, (str(self._path), "w")


# PyTorch, by hand


@contextmanager
def _torch() -> Iterator[types.ModuleType]:
    """Have modules by the names of PyTorch's, of which a pickle takes nothing but the names."""
    before = {name: sys.modules.get(name) for name in ("torch", "torch._utils")}
    torch, utils = types.ModuleType("torch"), types.ModuleType("torch._utils")

    def _rebuild_tensor_v2() -> None: ...

    for name, of in (("_rebuild_tensor_v2", _rebuild_tensor_v2),):
        of.__module__, of.__qualname__ = "torch._utils", name
        setattr(utils, name, of)
    torch.FloatStorage = type("FloatStorage", (), {"__module__": "torch"})  # type: ignore[attr-defined]
    torch._utils = utils  # type: ignore[attr-defined]
    sys.modules.update({"torch": torch, "torch._utils": utils})
    try:
        yield torch
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


class _Storage:
    def __init__(self, key: str, count: int) -> None:
        self.key, self.count = key, count


class _Tensor:
    def __init__(self, key: str, array: npt.NDArray[np.float32]) -> None:
        self.storage, self.array = _Storage(key, array.size), array

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        rebuild = sys.modules["torch._utils"]._rebuild_tensor_v2
        strides = tuple(each // self.array.itemsize for each in self.array.strides)
        return rebuild, (self.storage, 0, self.array.shape, strides, False, OrderedDict())


def _torch_pickle(what: object) -> bytes:
    with _torch() as torch:

        class Pickler(pickle.Pickler):
            def persistent_id(self, found: object) -> object:
                if isinstance(found, _Storage):
                    return ("storage", torch.FloatStorage, found.key, "cpu", found.count)
                return None

        out = io.BytesIO()
        Pickler(out, 2).dump(what)
        return out.getvalue()


def _state() -> OrderedDict[str, object]:
    return OrderedDict([("layer.weight", _Tensor("0", WEIGHT)), ("layer.bias", _Tensor("1", BIAS))])


def pytorch(more: object = None) -> bytes:
    """Return a state dict as PyTorch saves it; with something more in it, if that is given."""
    state = _state()
    if more is not None:
        state["more"] = more
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("model/data.pkl", _torch_pickle(state))
        archive.writestr("model/byteorder", "little")
        archive.writestr("model/data/0", WEIGHT.tobytes())
        archive.writestr("model/data/1", BIAS.tobytes())
        archive.writestr("model/version", "3\n")
    return out.getvalue()


def pytorch_legacy() -> bytes:
    """Return a state dict as PyTorch before 1.6 saved it."""
    parts = [
        pickle.dumps(0x1950A86A20F9469CFC6C, 2),
        pickle.dumps(1001, 2),
        pickle.dumps({"protocol_version": 1001, "little_endian": True}, 2),
        _torch_pickle(_state()),
        pickle.dumps(["0", "1"], 2),
    ]
    storages = [struct.pack("<q", array.size) + array.tobytes() for array in (WEIGHT, BIAS)]
    return b"".join([*parts, *storages])


# GGUF, Protocol Buffers, Universal Binary JSON, by hand


def gguf() -> bytes:
    """Return two tensors and some keys."""

    def text(value: str) -> bytes:
        return struct.pack("<Q", len(value)) + value.encode()

    keys = [
        text("general.architecture") + struct.pack("<I", 8) + text("llama"),
        text("llama.context_length") + struct.pack("<II", 4, 2048),
        text("general.alignment") + struct.pack("<II", 4, 32),
        text("tokenizer.ggml.tokens") + struct.pack("<IIQ", 9, 8, 2) + text("<s>") + text("a"),
        text("tokenizer.ggml.scores") + struct.pack("<IIQ", 9, 6, 2) + struct.pack("<2f", 0, 1),
    ]
    tensors = [
        text("token_embd.weight") + struct.pack("<IQQIQ", 2, 4, 3, 0, 0),
        text("output_norm.weight") + struct.pack("<IQIQ", 1, 3, 0, 64),
    ]
    header = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(keys)) + b"".join(keys + tensors)
    header += bytes(-len(header) % 32)
    return header + WEIGHT.tobytes() + bytes(16) + BIAS.tobytes()


def message(*fields: tuple[int, int | bytes | str]) -> bytes:
    """Return a message of Protocol Buffers."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += _varint(number << 3) + _varint(value)
        else:
            data = value.encode() if isinstance(value, str) else value
            out += _varint(number << 3 | 2) + _varint(len(data)) + data
    return out


def _varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def saved_model(operation: str = "MatMul") -> bytes:
    """Return a SavedModel with one signature and one operation."""
    shape = message((2, message((1, 2**64 - 1))), (2, message((1, 4))))
    port = message((1, "x"), (2, message((1, "serving_x:0"), (2, 1), (3, shape))))
    signature = message((1, port), (2, port), (3, "tensorflow/serving/predict"))
    graph = message(
        (1, message((4, "serve"), (5, "2.19.0"))),
        (2, message((1, message((1, "op"), (2, operation))))),
        (5, message((1, "serving_default"), (2, signature))),
    )
    return message((1, 1), (2, graph))


XGBOOST: dict[str, Any] = {
    "learner": {
        "attributes": {},
        "feature_names": [],
        "gradient_booster": {
            "model": {
                "gbtree_model_param": {"num_parallel_tree": "1", "num_trees": "2"},
                "tree_info": [0, 0],
                "trees": [{"id": 0, "split_conditions": [0.5, 1.5]}, {"id": 1}],
            },
            "name": "gbtree",
        },
        "learner_model_param": {"base_score": "5E-1", "num_class": "0", "num_feature": "4"},
        "objective": {"name": "binary:logistic", "reg_loss_param": {"scale_pos_weight": "1"}},
    },
    "version": [3, 1, 0],
}


def xgboost_json() -> bytes:
    """Return a model of XGBoost's as JSON."""
    return json.dumps(XGBOOST, separators=(",", ":")).encode()


def xgboost_ubjson() -> bytes:
    """Return the same as Universal Binary JSON."""
    return ubjson(XGBOOST)


def ubjson(value: object) -> bytes:
    """Return a value in Universal Binary JSON, lists of numbers typed as XGBoost does it."""
    if isinstance(value, dict):
        inner = b"".join(
            b"L" + struct.pack(">q", len(key)) + key.encode() + ubjson(each)
            for key, each in value.items()
        )
        return b"{" + inner + b"}"
    if isinstance(value, list) and value and all(isinstance(each, float) for each in value):
        data = struct.pack(f">{len(value)}f", *value)
        return b"[$d#L" + struct.pack(">q", len(value)) + data
    if isinstance(value, list):
        inner = b"".join(ubjson(each) for each in value)
        return b"[#L" + struct.pack(">q", len(value)) + inner
    if isinstance(value, int):
        return b"l" + struct.pack(">i", value)
    data = str(value).encode()
    return b"SL" + struct.pack(">q", len(data)) + data


def lightgbm_text() -> bytes:
    """Return a model of LightGBM's as text."""
    tree = "Tree=0\nnum_leaves=2\nsplit_feature=1\nthreshold=0.5\nleaf_value=1 2\n\n\n"
    head = (
        "tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\nlabel_index=0\n"
        "max_feature_idx=3\nobjective=binary sigmoid:1\nfeature_names=a b c d\n"
        f"feature_infos=[0:1] [0:1] [0:1] [0:1]\ntree_sizes={len(tree)}\n\n"
    )
    return f"{head}{tree}end of trees\n\nfeature_importances:\nb=1\n\nparameters:\nend\n".encode()


def keras_config(layer: str = "Dense", **more: object) -> dict[str, object]:
    """Return the configuration of a model with one layer, as Keras 3 writes it."""
    inner = {
        "module": "keras.layers",
        "class_name": layer,
        "config": {"name": "layer", **more},
        "registered_name": None,
        "build_config": {"input_shape": [None, 4]},
    }
    return {
        "module": "keras",
        "class_name": "Sequential",
        "config": {"name": "sequential", "layers": [inner]},
        "registered_name": None,
    }


def keras_archive(config: dict[str, object] | None = None) -> bytes:
    """Return a `.keras` file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.12.0"}))
        archive.writestr("config.json", json.dumps(config or keras_config()))
        archive.writestr("model.weights.h5", hdf5())
    return out.getvalue()


def hdf5(attributes: dict[str, str] | None = None, **options: object) -> bytes:
    """Return two data sets in HDF5, and attributes of its root."""
    import h5py  # noqa: PLC0415 - loads a library of its own, and not every test needs it

    out = io.BytesIO()
    with h5py.File(out, "w", **options) as file:
        file.attrs.update(attributes or {})
        file.create_group("layers/dense/vars").create_dataset("0", data=WEIGHT)
        file["layers/dense/vars"].create_dataset("1", data=BIAS)
    return out.getvalue()


MLMODEL = b"""\
artifact_path: model
flavors:
  python_function:
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.sklearn
    model_path: model.pkl
    predict_fn: predict
    python_version: 3.11.9
  sklearn:
    code: null
    pickled_model: model.pkl
    serialization_format: cloudpickle
    sklearn_version: 1.9.1
mlflow_version: 3.6.0
model_uuid: 0b8f6a527d1e4f3cb9a451c2e8d7f603
run_id: 5d41402abc4b2a76b9719d911017c592
utc_time_created: '2026-03-14 09:26:53.589793'
"""

HUGGINGFACE = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 64,
    "model_type": "llama",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.57.0",
    "vocab_size": 32000,
}


def huggingface(**more: object) -> bytes:
    """Return a model's configuration."""
    return json.dumps({**HUGGINGFACE, **more}).encode()


def samples(folder: Path) -> dict[str, bytes]:
    """Return a file of every format by a name that it may have."""
    return {
        "model.safetensors": safetensors(),
        "model.onnx": onnx_model(),
        "model.gguf": gguf(),
        "MLmodel": MLMODEL,
        "config.json": huggingface(),
        "model.keras": keras_archive(),
        "model.h5": hdf5({"keras_version": "2.15.0", "model_config": json.dumps(keras_config())}),
        "data.hdf5": hdf5(libver="latest"),
        "array.npy": npy(),
        "arrays.npz": npz(),
        "packed.npz": npz(packed=True),
        "model.joblib": joblib_file(folder / "plain"),
        "packed.joblib": joblib_file(folder / "packed", compress=3),
        "model.pkl": pickled(),
        "old.pkl": pickled({"a": [1, 2]}, 0),
        "model.pt": pytorch(),
        "legacy.pt": pytorch_legacy(),
        "saved_model.pb": saved_model(),
        "xgboost.json": xgboost_json(),
        "xgboost.ubj": xgboost_ubjson(),
        "lightgbm.txt": lightgbm_text(),
    }
