"""The kinds of files that are known, and what a home may say of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

KINDS: Final[Mapping[str, str]] = {
    "gguf": "a GGUF file",
    "hdf5": "an HDF5 file",
    "huggingface": "a Hugging Face configuration",
    "joblib": "a joblib file",
    "keras": "a Keras model",
    "lightgbm": "a LightGBM model",
    "mlmodel": "an MLflow model",
    "numpy": "NumPy arrays",
    "onnx": "an ONNX model",
    "pickle": "a pickle",
    "pytorch": "a PyTorch file",
    "safetensors": "a safetensors file",
    "tensorflow": "a TensorFlow SavedModel",
    "xgboost": "an XGBoost model",
}
"""Each kind with what a file of it is called."""

ALLOW: Final = "allow"
WARN: Final = "warn"
PARK: Final = "park"
VERDICTS: Final = (ALLOW, WARN, PARK)
"""What a home may do with files of a kind, the mildest first."""
