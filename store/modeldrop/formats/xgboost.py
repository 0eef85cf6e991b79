"""XGBoost: its model as JSON or as Universal Binary JSON.

The JSON of a large model is megabytes on one line. What is asked for stands at its beginning and
its end, and is looked for there by its form. Whether all of it is JSON is looked at up to 4 MiB.
"""

from __future__ import annotations

import re
from typing import Final

from modeldrop.formats.description import Description, NotThisKindError
from modeldrop.formats.source import Bounded, Cursor
from modeldrop.formats.texts import as_object, decoded
from modeldrop.formats.ubjson import Found, Walker

_ENDS: Final = 256 * 2**10
_MOST_PARSED: Final = 4 * 2**20
_VERSION: Final = re.compile(r'"version"\s*:\s*\[\s*(\d{1,4})\s*,\s*(\d{1,4})\s*,\s*(\d{1,4})\s*\]')
_MODEL: Final = "learner.gradient_booster.model"
_NAMED: Final = {
    "learner.objective.name": "objective",
    "learner.gradient_booster.name": "booster",
    "learner.gradient_booster.gbtree.name": "booster",
    "learner.learner_model_param.num_feature": "features",
    "learner.learner_model_param.num_class": "classes",
    "learner.learner_model_param.base_score": "base_score",
    f"{_MODEL}.gbtree_model_param.num_trees": "trees",
    "learner.gradient_booster.gbtree.model.gbtree_model_param.num_trees": "trees",
}


def read_ubjson(source: Bounded, into: Description) -> None:
    """Describe a model in Universal Binary JSON.

    Raises:
        NotThisKindError: it is such a document, and no model.
    """
    into.note("layout", "ubj")
    walker = Walker(Cursor(source))
    try:
        walker.run()
    finally:
        _tell(walker.found, into)
    if "objective" not in into.summary and "booster" not in into.summary:
        raise NotThisKindError


def _tell(found: dict[str, Found], into: Description) -> None:
    version = [found.get(f"version.{place}") for place in range(3)]
    if all(isinstance(each, int) for each in version):
        into.note("xgboost_version", ".".join(str(each) for each in version))
    for path, name in _NAMED.items():
        _note(name, found.get(path), into)


def _note(name: str, value: Found, into: Description) -> None:
    if isinstance(value, str) and value.isdecimal() and len(value) < 16:
        value = int(value)
    into.note(name, value)


def read_json(source: Bounded, into: Description) -> None:
    """Describe a model in JSON.

    Raises:
        NotThisKindError: it is other JSON.
    """
    head = decoded(source.upto(0, _ENDS))
    tail = decoded(source.upto(max(0, source.size - _ENDS), _ENDS))
    both = head if source.size <= _ENDS else head + tail
    into.note("layout", "json")
    version = _VERSION.search(tail) or _VERSION.search(head)
    if version:
        into.note("xgboost_version", ".".join(version.groups()))
    for name, key in (
        ("features", "num_feature"),
        ("classes", "num_class"),
        ("trees", "num_trees"),
    ):
        _note(name, _value(key, both), into)
    into.note("base_score", _value("base_score", both))
    objective = re.search(
        r'"objective"\s*:\s*\{[^{}]{0,2000}?(?:\{[^{}]*\}[^{}]*?)?"name"\s*:\s*"([^"]{1,100})"',
        both,
    )
    into.note("objective", objective and objective[1])
    booster = re.search(r'"name"\s*:\s*"(gbtree|gblinear|dart)"', both)
    into.note("booster", booster and booster[1])
    if not ({"features", "objective", "booster"} & into.summary.keys()):
        raise NotThisKindError
    whole = source.size > _MOST_PARSED or as_object(source.read(0, source.size)) is not None
    if not whole or not tail.rstrip().endswith("}"):
        into.break_off("it is cut off: it doesn't end as JSON does")


def _value(key: str, text: str) -> str | None:
    found = re.search(rf'"{key}"\s*:\s*"([^"]{{1,100}})"', text)
    return found[1] if found else None
