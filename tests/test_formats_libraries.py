"""What heavy libraries write, read by its header.

`make test-formats` installs them; elsewhere their tests are skipped.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modeldrop.formats.description import Description
from modeldrop.formats.recognition import look
from modeldrop.formats.source import ASKED, InMemory

pytestmark = pytest.mark.filterwarnings("ignore")


def told(path: Path) -> Description:
    found = look(InMemory(path.read_bytes(), path.name), ASKED, tensors=True)
    assert found is not None
    return found


def shapes(found: Description) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {each.name: (each.dtype, each.shape) for each in found.tensors}


def torch_model(torch: Any) -> Any:  # noqa: ANN401 - it isn't there when this is checked
    return torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))


@pytest.mark.parametrize("zipped", [True, False])
def test_state_dict_of_torch(tmp_path: Path, zipped: bool) -> None:
    torch = pytest.importorskip("torch")
    model = torch_model(torch).to(torch.bfloat16)
    path = tmp_path / "model.pt"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=zipped)
    found = told(path)
    assert (found.kind, found.runs_code, found.warnings) == ("pytorch", False, [])
    assert shapes(found) == {
        name: (str(each.dtype).removeprefix("torch."), tuple(each.shape))
        for name, each in model.state_dict().items()
    }


def test_checkpoint_of_torch_with_an_optimizer_runs_no_code(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = torch_model(torch)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(2, 4)).sum().backward()
    optimizer.step()
    path = tmp_path / "last.ckpt"
    torch.save({"epoch": 3, "model": model.state_dict(), "optimizer": optimizer.state_dict()}, path)
    torch.load(path, weights_only=True)
    found = told(path)
    assert (found.kind, found.runs_code, found.warnings) == ("pytorch", False, [])
    assert shapes(found)["model.0.weight"] == ("float32", (3, 4))


def test_whole_module_of_torch_runs_code(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    path = tmp_path / "model.pt"
    torch.save(torch_model(torch), path)
    found = told(path)
    assert (found.kind, found.runs_code) == ("pytorch", True)
    assert "torch.nn.modules" in str(found.summary["imports"])
    assert len(found.tensors) == 4
    scripted = tmp_path / "script.pt"
    torch.jit.save(torch.jit.script(torch_model(torch)), scripted)
    assert told(scripted).runs_code
    assert told(scripted).summary["layout"] == "TorchScript"


def keras_model(keras: Any) -> Any:  # noqa: ANN401 - the same
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(1)])
    model.compile("adam", "mse")
    model.fit(np.ones((2, 4)), np.ones((2, 1)), verbose=0)
    return model


@pytest.mark.parametrize("name", ["model.keras", "model.h5"])
def test_model_of_keras(tmp_path: Path, name: str) -> None:
    keras = pytest.importorskip("keras")
    keras_model(keras).save(tmp_path / name)
    found = told(tmp_path / name)
    assert (found.kind, found.runs_code, found.warnings) == ("keras", False, [])
    assert found.summary["keras_version"] == keras.__version__
    assert {shape for _, shape in shapes(found).values()} >= {(4, 3), (3, 1), (3,), (1,)}


def test_lambda_layer_of_keras_runs_code(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    layers = [keras.Input((4,)), keras.layers.Lambda(lambda x: x * 2)]
    keras.Sequential(layers).save(tmp_path / "model.keras")
    assert told(tmp_path / "model.keras").runs_code


def test_saved_model_of_tensorflow(tmp_path: Path) -> None:
    tensorflow: Any = pytest.importorskip("tensorflow")

    class Linear(tensorflow.Module):  # type: ignore[misc] # the same
        def __init__(self) -> None:
            super().__init__()
            self.weight = tensorflow.Variable(np.ones((4, 1), np.float32))

        @tensorflow.function(input_signature=[tensorflow.TensorSpec((None, 4))])  # type: ignore[untyped-decorator] # the same
        def __call__(self, x: Any) -> Any:  # noqa: ANN401 - the same
            return x @ self.weight

    tensorflow.saved_model.save(Linear(), str(tmp_path / "model"))
    found = told(tmp_path / "model" / "saved_model.pb")
    assert (found.kind, found.runs_code, found.warnings) == ("tensorflow", False, [])
    assert found.summary["tensorflow_version"] == tensorflow.__version__
    assert found.summary["tags"] == "serve"
    assert found.summary["inputs"] == "x: float32[?, 4]"


@pytest.mark.parametrize("name", ["model.json", "model.ubj"])
def test_model_of_xgboost(tmp_path: Path, name: str) -> None:
    xgboost = pytest.importorskip("xgboost")
    data = xgboost.DMatrix(np.random.default_rng(1).random((50, 4)), np.arange(50) % 2)
    booster = xgboost.train({"objective": "binary:logistic"}, data, num_boost_round=7)
    booster.save_model(tmp_path / name)
    found = told(tmp_path / name)
    assert (found.kind, found.runs_code, found.warnings) == ("xgboost", False, [])
    assert found.summary["xgboost_version"] == xgboost.__version__
    assert found.summary["objective"] == "binary:logistic"
    assert (found.summary["trees"], found.summary["features"]) == (7, 4)


def test_model_of_lightgbm(tmp_path: Path) -> None:
    lightgbm = pytest.importorskip("lightgbm")
    data = lightgbm.Dataset(np.random.default_rng(1).random((200, 4)), np.arange(200) % 2)
    booster = lightgbm.train({"objective": "binary", "verbose": -1}, data, num_boost_round=5)
    booster.save_model(tmp_path / "model.txt")
    found = told(tmp_path / "model.txt")
    assert (found.kind, found.runs_code, found.warnings) == ("lightgbm", False, [])
    assert (found.summary["trees"], found.summary["features"]) == (5, 4)
    text = (tmp_path / "model.txt").read_text()
    (tmp_path / "cut.txt").write_text(text[: len(text) // 2])
    assert told(tmp_path / "cut.txt").damaged


def test_model_of_gguf(tmp_path: Path) -> None:
    gguf = pytest.importorskip("gguf")
    writer = gguf.GGUFWriter(tmp_path / "model.gguf", "llama")
    writer.add_context_length(2048)
    writer.add_token_list(["<s>", "a", "b"])
    writer.add_tensor("token_embd.weight", np.ones((3, 4), np.float32))
    writer.add_tensor(
        "blk.0.weight",
        gguf.quantize(np.ones((2, 64), np.float32), gguf.GGMLQuantizationType.Q8_0),
        raw_dtype=gguf.GGMLQuantizationType.Q8_0,
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    found = told(tmp_path / "model.gguf")
    assert (found.kind, found.warnings) == ("gguf", [])
    assert found.summary["context_length"] == 2048
    assert shapes(found) == {
        "token_embd.weight": ("F32", (3, 4)),
        "blk.0.weight": ("Q8_0", (2, 64)),
    }
