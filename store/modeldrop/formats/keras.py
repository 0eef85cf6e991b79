"""Keras: `.keras`, a zip of a configuration and an HDF5 file, and the older HDF5 file alone.

Whatever is not of Keras's own modules is code that has to be there when the model is loaded. A
Lambda layer may bring its code along, marshalled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from modeldrop.formats.description import DamagedError, Description, TooMuchError
from modeldrop.formats.hdf5 import File
from modeldrop.formats.source import Bounded
from modeldrop.formats.texts import as_object
from modeldrop.formats.ziparchive import Archive

_MOST_CONFIG: Final = 8 * 2**20
_MOST_VISITS: Final = 200_000
WEIGHTS: Final = "model.weights.h5"


def is_keras(archive: Archive) -> bool:
    """Return whether an archive is a Keras model's, by its members."""
    return {"metadata.json", "config.json"} <= archive.members.keys()


def read_archive(archive: Archive, into: Description) -> None:
    """Describe a `.keras` file."""
    into.note("layout", "keras")
    metadata = _config(archive, "metadata.json")
    version = metadata.get("keras_version")
    into.note("keras_version", version if isinstance(version, str) else None)
    describe_model(_config(archive, "config.json"), into)
    if WEIGHTS in archive.members:
        if archive.members[WEIGHTS].is_stored:
            File(archive.open(WEIGHTS, 0)).list_tensors(into)
        else:
            into.warn("its weights are packed, and aren't listed")
    else:
        into.break_off(f"it has no {WEIGHTS}")


def _config(archive: Archive, name: str) -> dict[str, object]:
    if archive.members[name].size > _MOST_CONFIG:
        message = f"{name} has more than {_MOST_CONFIG} bytes"
        raise TooMuchError(message)
    part = archive.open(name, _MOST_CONFIG)
    found = as_object(part.read(0, part.size))
    if found is None:
        message = f"{name} is no JSON object"
        raise DamagedError(message)
    return found


def read_hdf5(source: Bounded, into: Description) -> None:
    """Describe an HDF5 file, which a Keras model is if it says which Keras wrote it."""
    file = File(source)
    attributes = file.attributes()
    if {"keras_version", "layer_names", "model_config"} & attributes.keys():
        into.kind = "keras"
        into.note("layout", "h5")
    for name in ("keras_version", "backend"):
        value = attributes.get(name)
        into.note(name, value.decode("utf-8", "replace") if value else None)
    config = attributes.get("model_config")
    if config is not None:
        found = as_object(config)
        if found is None:
            into.break_off("its model_config is no JSON object")
        else:
            describe_model(found, into)
    file.list_tensors(into)


def describe_model(config: dict[str, object], into: Description) -> None:
    """Say what a model is by its configuration, and which code it wants."""
    name = config.get("class_name")
    into.note("class", name if isinstance(name, str) else None)
    layers, foreign = 0, dict[str, None]()
    for each in _objects(config):
        kind = each.get("class_name")
        if not isinstance(kind, str):
            continue
        layers += "build_config" in each or "inbound_nodes" in each
        module = each.get("module")
        registered = each.get("registered_name")
        if kind == "__lambda__":
            into.runs_code = True
            into.warn("a Lambda layer brings code along, which runs when the model is loaded")
        elif kind == "Lambda":
            into.runs_code = True
            into.warn("it has a Lambda layer, which may bring code along")
        elif isinstance(module, str) and module.partition(".")[0] not in ("keras", "builtins"):
            foreign[f"{module}.{kind}"] = None
        elif isinstance(registered, str) and module is None and ">" in registered:
            foreign[registered] = None
    into.note("layers", layers or None)
    if foreign:
        into.warn(f"it needs code that isn't Keras's: {', '.join(list(foreign)[:10])}")


def _objects(config: object) -> Iterator[dict[str, object]]:
    """Yield every JSON object in another one."""
    todo, visits = [config], 0
    while todo and visits < _MOST_VISITS:
        visits += 1
        value = todo.pop()
        if isinstance(value, dict):
            yield value
            todo += value.values()
        elif isinstance(value, list):
            todo += value
