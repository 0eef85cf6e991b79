"""Hugging Face `config.json`: which architecture it is, and whether it brings code along."""

from __future__ import annotations

from typing import Final

from modeldrop.formats.description import Description, NotThisKindError, TooMuchError
from modeldrop.formats.source import Bounded
from modeldrop.formats.texts import as_object

_MOST_BYTES: Final = 2**20
_TEXTS: Final = ("model_type", "torch_dtype", "dtype", "transformers_version")
_NUMBERS: Final = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


def read(source: Bounded, into: Description) -> None:
    """Describe the configuration of a model.

    Raises:
        NotThisKindError: it is another `config.json`.
    """
    if source.size > _MOST_BYTES:
        raise NotThisKindError
    found = as_object(source.read(0, source.size))
    if found is None or not ({"model_type", "architectures", "auto_map"} & found.keys()):
        raise NotThisKindError
    for name in _TEXTS:
        value = found.get(name)
        if isinstance(value, str):
            into.note(name, value)
    for name in _NUMBERS:
        value = found.get(name)
        if type(value) is int:
            into.note(name, value)
    architectures = found.get("architectures")
    if isinstance(architectures, list):
        into.note_all("architectures", [each for each in architectures if isinstance(each, str)])
    _look_for_code(found, into)
    if len(into.summary) == 0 and not into.runs_code:
        raise TooMuchError("nothing in it is of a form that is known")


def _look_for_code(found: dict[str, object], into: Description) -> None:
    mapped = found.get("auto_map")
    if not mapped:
        return
    into.runs_code = True
    names = mapped.values() if isinstance(mapped, dict) else ()
    flat = [each for name in names for each in (name if isinstance(name, list) else [name])]
    into.note_all("auto_map", [each for each in flat if isinstance(each, str)][:20])
    into.warn("auto_map: code of its repository runs if it is loaded with trust_remote_code")
