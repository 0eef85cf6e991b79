"""MLflow's `MLmodel`: which flavours a model has, and whether loading it runs code.

It is YAML as MLflow writes it: blocks, indented by two spaces. Only `key: value` lines of the first
four levels are read, which needs no parser of all that YAML can be.
"""

from __future__ import annotations

import re
from typing import Final

from modeldrop.formats.description import Description, NotThisKindError
from modeldrop.formats.source import Bounded
from modeldrop.formats.texts import decoded

_MOST_BYTES: Final = 2**20
_LINE: Final = re.compile(
    r"(?P<indent>(?:  ){0,3})(?P<key>[A-Za-z_][\w.-]{0,99}):(?: (?P<value>.*))?"
)
_TEXTS: Final = ("run_id", "mlflow_version", "model_uuid", "utc_time_created", "model_id")
_PICKLES: Final = frozenset({"pickle", "cloudpickle", "joblib"})
_NOTHING: Final = frozenset({"", "null", "~"})


def read(source: Bounded, into: Description) -> None:
    """Describe an MLflow model.

    Raises:
        NotThisKindError: no flavour is named.
    """
    if source.size > _MOST_BYTES:
        raise NotThisKindError
    flavors: list[str] = []
    path: list[str] = []
    for line in decoded(source.read(0, source.size)).splitlines():
        source.tick()
        found = _LINE.fullmatch(line.rstrip())
        if found is None:
            continue
        depth, key = len(found["indent"]) // 2, found["key"]
        value = (found["value"] or "").strip().strip("'\"")
        path = [*path[:depth], key]
        if depth == 0 and key in _TEXTS:
            into.note(key, value)
        elif depth == 1 and path[0] == "flavors":
            flavors.append(key)
        elif depth > 1 and path[0] == "flavors":
            _take(path, value, into)
    if not flavors:
        raise NotThisKindError
    into.note_all("flavors", flavors[:20])


def _take(path: list[str], value: str, into: Description) -> None:
    flavor, key = path[1], path[-1]
    if key == "serialization_format" and value in _PICKLES:
        into.runs_code = True
        into.note("serialization_format", value)
    elif key == "code" and value not in _NOTHING:
        into.runs_code = True
        into.warn(f"it brings code along, in {value!r}")
    elif flavor == "python_function" and key in ("loader_module", "python_version"):
        into.note(key, value)
        if value == "mlflow.pyfunc.model":
            into.runs_code = True
    elif key in ("sklearn_version", "pytorch_version", "xgb_version", "lgb_version"):
        into.note(key, value)
    elif key == "pickled_model":
        into.runs_code = True
