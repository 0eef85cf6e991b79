"""Real models, trained, dropped, stored, registered, pulled and loaded again, predict alike."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import joblib
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest
from safetensors.numpy import load_file, save_file
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from modeldrop import Repository
from modeldrop.intake import drop
from support.intake import make_home, scan

Floats = npt.NDArray[np.float64]


@pytest.fixture(scope="module")
def samples() -> Floats:
    return np.random.default_rng(1).normal(size=(200, 4))


@pytest.fixture(scope="module")
def trained(samples: Floats) -> Pipeline:
    labels = (samples @ np.array([1.0, -2.0, 0.5, 3.0]) > 0).astype(int)
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(samples, labels)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_home(tmp_path / "home") as opened:
        yield opened


def there_and_back(repository: Repository, model: Path, out: Path) -> Path:
    """Drop, store, register and pull a model; return the pulled copy."""
    run = drop(repository.home.staging, [model], experiment="churn")
    assert scan(repository)[run].state == "committed"
    registered = repository.register(run)
    assert (registered.version.experiment, registered.version.version) == ("churn", 1)
    return repository.pull("churn/1", out)


@pytest.mark.parametrize("backend", ["local", "s3", "azure"])
def test_a_scikit_learn_pipeline(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    samples: Floats,
    trained: Pipeline,
    backend: str,
) -> None:
    url = "" if backend == "local" else request.getfixturevalue(f"{backend}_url")
    joblib.dump(trained, tmp_path / "model.joblib")
    with make_home(tmp_path / "home", url) as repository:
        pulled = there_and_back(repository, tmp_path / "model.joblib", tmp_path / "out")
    assert pulled.name == "model.joblib"
    np.testing.assert_array_equal(
        joblib.load(pulled).predict_proba(samples), trained.predict_proba(samples)
    )


def test_an_onnx_model(
    repository: Repository, tmp_path: Path, samples: Floats, trained: Pipeline
) -> None:
    inputs = samples.astype(np.float32)
    model = tmp_path / "model.onnx"
    model.write_bytes(to_onnx(trained, inputs[:1]).SerializeToString())
    pulled = there_and_back(repository, model, tmp_path / "out")

    def predict(path: Path) -> list[npt.NDArray[np.int64]]:
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        (name,) = (each.name for each in session.get_inputs())
        labels = session.get_outputs()[0].name
        return list(session.run([labels], {name: inputs}))

    np.testing.assert_array_equal(predict(pulled), predict(model))
    np.testing.assert_array_equal(predict(pulled)[0], trained.predict(inputs))


def test_a_safetensors_file(repository: Repository, tmp_path: Path, samples: Floats) -> None:
    weights = {"weight": samples[:3].copy(), "bias": np.arange(3.0)}
    save_file(weights, tmp_path / "model.safetensors")
    pulled = there_and_back(repository, tmp_path / "model.safetensors", tmp_path / "out")
    loaded = load_file(pulled)

    def predict(of: dict[str, Floats]) -> Floats:
        result: Floats = samples @ of["weight"].T + of["bias"]
        return result

    np.testing.assert_array_equal(predict(loaded), predict(weights))


def test_a_folder_of_several_files(
    repository: Repository, tmp_path: Path, samples: Floats, trained: Pipeline
) -> None:
    model = tmp_path / "model"
    (model / "shards").mkdir(parents=True)
    (model / "shards" / "empty.txt").touch()
    joblib.dump(trained[0], model / "scaler.joblib")
    save_file({"weight": trained[1].coef_}, model / "shards" / "0.safetensors")
    save_file({"bias": trained[1].intercept_}, model / "shards" / "1.safetensors")
    (model / "config.json").write_text(json.dumps({"classes": trained[1].classes_.tolist()}))
    pulled = there_and_back(repository, model, tmp_path / "out")

    load: Callable[[str], dict[str, Floats]] = lambda name: load_file(pulled / "shards" / name)  # noqa: E731 - shorter than a function
    classes = np.array(json.loads((pulled / "config.json").read_text())["classes"])
    scaled = joblib.load(pulled / "scaler.joblib").transform(samples)
    scores = scaled @ load("0.safetensors")["weight"].T + load("1.safetensors")["bias"]
    np.testing.assert_array_equal(classes[(scores[:, 0] > 0).astype(int)], trained.predict(samples))
    assert sorted(str(each.relative_to(pulled)) for each in pulled.rglob("*.*")) == [
        "config.json",
        "scaler.joblib",
        "shards/0.safetensors",
        "shards/1.safetensors",
        "shards/empty.txt",
    ]
