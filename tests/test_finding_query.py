"""The language of `search`: how it is read, where it is wrong, and what it finds."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modeldrop.errors import InvalidQuery, UsageError
from modeldrop.finding import answers
from modeldrop.finding.conditions import RUNS, VERSIONS, Sort, condition
from modeldrop.finding.facts import number_of
from modeldrop.finding.index import Index, writing
from modeldrop.finding.query import Comparison, Either, Every, Not, Tree, parse
from modeldrop.finding.tables import insert_revision, insert_versions, mark_last
from modeldrop.metadata import Dataset, Metadata
from modeldrop.records import Artifact, FileFormat, StoredFile
from modeldrop.structs import replace
from support import worlds

Found = Callable[..., list[int]]


def comparison(field: str, operator: str = "", value: str = "") -> Comparison:
    return Comparison(field, operator, value, 0, 0)


def bare(tree: Tree) -> Tree:
    """Return a tree without the places of what is in it."""
    if isinstance(tree, Comparison):
        return comparison(tree.field, tree.operator, tree.value)
    if isinstance(tree, Not):
        return Not(bare(tree.item))
    return type(tree)(tuple(map(bare, tree.items)))


@pytest.mark.parametrize(
    ("query", "tree"),
    [
        ("a=1", comparison("a", "=", "1")),
        (" a  ==\n1 ", comparison("a", "=", "1")),
        ("metrics.auc>0.9", comparison("metrics.auc", ">", "0.9")),
        ("metrics.loss<=-1e-05", comparison("metrics.loss", "<=", "-1e-05")),
        ("alias", comparison("alias")),
        ("a='it is \"so\"'", comparison("a", "=", 'it is "so"')),
        (r'a="\"\\x"', comparison("a", "=", r"\x".replace("\\", '"\\', 1))),
        ('metrics."val loss"<0.3', comparison("metrics.val loss", "<", "0.3")),
        (
            "a=1 or b=2 and not c=3",
            Either(
                (
                    comparison("a", "=", "1"),
                    Every((comparison("b", "=", "2"), Not(comparison("c", "=", "3")))),
                )
            ),
        ),
        (
            "(a=1 OR b=2) AND NOT NOT c",
            Every(
                (
                    Either((comparison("a", "=", "1"), comparison("b", "=", "2"))),
                    Not(Not(comparison("c"))),
                )
            ),
        ),
    ],
)
def test_query_is_read(query: str, tree: Tree) -> None:
    assert bare(parse(query)) == tree


@pytest.mark.parametrize(
    ("query", "at", "why"),
    [
        ("", 1, "it is empty"),
        ("   ", 1, "it is empty"),
        ("experiment=", 12, "a value was expected after `=`"),
        ("experiment= and a=1", 13, "a value was expected after `=`"),
        ("a=1 b=2", 5, "`and` or `or` was expected"),
        ("a=1 and", 8, "a field was expected, and it ends"),
        ("=1", 1, "a field was expected"),
        ("a=1 or and b=2", 8, "a field was expected"),
        ("(a=1 or b=2", 12, "the `(` at character 1 has no `)`"),
        ("a=1)", 4, "there is a `)` and no `(` for it"),
        ("a=(b)", 3, "a value was expected after `=`"),
        ('a="b', 3, "has no end"),
        ("a=1 and b='c", 11, "has no end"),
        ("a!1", 2, "`!` stands only in `!=`"),
        ("a<>1", 3, "a value was expected after `<`"),
        ("(" * 60 + "a" + ")" * 60, 41, "more than 40 levels deep"),
        (" or ".join(["a=1"] * 300), 1401, "asks more than 200 things"),
        ("metrics.auc>0.9 and experment=churn", 21, "no field 'experment'"),
        ("metrics.=1", 1, "no field 'metrics.'"),
        ("version=new", 9, "`version` is a number"),
        ("size~1", 6, "`size` is a number"),
        ("stored>2026", 1, "no version has the field `stored`"),
    ],
)
def test_query_that_cant_be_read_says_where(query: str, at: int, why: str) -> None:
    with pytest.raises(InvalidQuery) as refused:
        condition(VERSIONS, parse(query), query)
    assert refused.value.detail == {"query": query, "at": at}
    assert f"wrong at character {at} " in refused.value.message
    assert why in refused.value.message
    assert refused.value.hint


def test_a_wrong_field_names_the_nearest_and_all() -> None:
    with pytest.raises(InvalidQuery) as refused:
        condition(RUNS, parse("comitted_by=ada or expriment=x"), "")
    assert "the fields are artifact, by, code.branch" in refused.value.hint
    with pytest.raises(InvalidQuery) as refused:
        condition(RUNS, parse("expriment=x"), "")
    assert refused.value.hint.startswith("did you mean `experiment`?")
    with pytest.raises(InvalidQuery, match="no run has the field `alias`") as refused:
        condition(RUNS, parse("alias=champion"), "")
    assert "leave out `--runs`" in refused.value.hint


WORDS = st.text("ab.-_1é", min_size=1, max_size=5).filter(
    lambda text: text.lower() not in {"and", "or", "not"} and not text.endswith(".")
)
COMPARISONS = st.builds(
    comparison, WORDS, st.sampled_from(["=", "!=", "<", "<=", ">", ">=", "~"]), st.text(max_size=6)
) | st.builds(comparison, WORDS)
TREES = st.recursive(
    COMPARISONS,
    lambda inner: (
        st.builds(Not, inner)
        | st.lists(inner, min_size=2, max_size=3).map(lambda items: Every(tuple(items)))
        | st.lists(inner, min_size=2, max_size=3).map(lambda items: Either(tuple(items)))
    ),
    max_leaves=8,
)


def written(tree: Tree) -> str:
    if isinstance(tree, Comparison):
        value = tree.value.replace("\\", "\\\\").replace('"', '\\"')
        # A name with a space stands in quotes behind its dot.
        group, _, name = tree.field.partition(".")
        field = f'{group}."{name}"' if " " in name else tree.field
        return field + (f'{tree.operator}"{value}"' if tree.operator else "")
    if isinstance(tree, Not):
        return f"not ({written(tree.item)})"
    word = " and " if isinstance(tree, Every) else " OR "
    return f"({word.join(map(written, tree.items))})"


@given(TREES)
def test_what_is_written_is_what_is_read(tree: Tree) -> None:
    assert bare(parse(written(tree))) == tree


# What it finds


SAID = {
    1: Metadata(
        params={"depth": 8, "lr": "1e-05", "augment": True, "kind": "tree"},
        metrics={"auc": "0.91", "loss": "0.3"},
        directions={"auc": "max"},
        tags={"team": "risk", "ticket": ""},
        datasets=(Dataset("customers", "ab" * 32), Dataset("weather", "cd" * 32)),
    ),
    2: Metadata(
        params={"depth": "deep", "lr": "0.1", "augment": False},
        metrics={"auc": "nan", "loss": "inf"},
        tags={"team": "Growth"},
    ),
    3: Metadata(params={"depth": 12}, metrics={"auc": "0.95", "loss": "-0.5", "val loss": "1"}),
    4: Metadata(),
}


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """An index of four runs, of which the first three say something."""

    def fill(db: sqlite3.Connection) -> None:
        with writing(db):
            for number, metadata in SAID.items():
                insert_revision(db, worlds.revision(number, metadata))
                mark_last(db, worlds.guid(number), 1)

    made = Index(tmp_path_factory.mktemp("home") / "index" / "index.sqlite", "some repository")
    made.use(fill)
    return made


def test_a_version_has_the_formats_of_its_own_artifact(tmp_path: Path) -> None:
    def files(*names: str) -> tuple[Artifact, ...]:
        return tuple(
            Artifact.of_file(StoredFile(name, "0" * 64, 1, f"run/upload/{name}")) for name in names
        )

    whole = replace(
        worlds.revision(1, Metadata()),
        artifacts=files("a.onnx", "b.pkl"),
        formats=(
            FileFormat("a.onnx", "onnx", runs_code=False, summary={}, warnings=()),
            FileFormat("b.pkl", "pickle", runs_code=True, summary={}, warnings=()),
        ),
    )

    def fill(db: sqlite3.Connection) -> None:
        with writing(db):
            number = insert_revision(db, whole)
            each = worlds.version(worlds.revision(1, Metadata()), "churn", 1)
            for at, artifact in enumerate(("a.onnx", "b.pkl", "."), 1):
                insert_versions(db, [replace(each, version=at, artifact=artifact)])
            db.execute("UPDATE versions SET said = ?", (number,))

    made = Index(tmp_path / "index" / "index.sqlite", "some repository")
    made.use(fill)

    def find(query: str) -> list[int]:
        where = condition(VERSIONS, parse(query), query)
        order = Sort.of("version")
        return made.use(lambda db: [each.version for each in answers.versions(db, where, order)])

    assert find("format=onnx") == [1, 3]
    assert find("format!=onnx") == [2, 3]
    assert find("not format=onnx") == [2]
    assert find("runs_code=true") == [2, 3]
    everything = made.use(lambda db: answers.versions(db, answers.ALL, Sort.of("version")))
    assert [each.formats() for each in everything] == [["onnx"], ["pickle"], ["onnx", "pickle"]]
    assert [each.runs_code() for each in everything] == [False, True, True]


@pytest.fixture(scope="module")
def found(index: Index) -> Found:
    """What returns the numbers of the runs that a query finds, smallest first unless sorted."""

    def find(query: str, sort: str | None = None) -> list[int]:
        where = condition(RUNS, parse(query), query)
        order = Sort.of(sort or "stored")
        numbers = {worlds.guid(number): number for number in SAID}
        return index.use(lambda db: [numbers[each.run] for each in answers.runs(db, where, order)])

    return find


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("experiment=churn", [1, 2, 3, 4]),
        ("experiment=Churn", []),
        ("metrics.auc>0.9", [1, 3]),
        ("metrics.auc>=0.91 and metrics.auc<0.95", [1]),
        ("metrics.auc=0.910", [1]),
        ("metrics.auc", [1, 2, 3]),
        ("not metrics.auc", [4]),
        ("metrics.auc=nan", [2]),
        ("metrics.auc<nan", []),
        ("metrics.loss>1000", [2]),
        ("metrics.loss=inf or metrics.loss<0", [2, 3]),
        ('metrics."val loss"=1', [3]),
        ("params.depth<=8", [1]),
        ("params.depth=8.0", [1]),
        ("params.depth!=8", [2, 3]),
        ("not params.depth=8", [2, 3, 4]),
        ("params.depth=deep", [2]),
        ("params.depth>a", [2]),
        ("params.lr=0.00001", [1]),
        ("params.augment=true", [1]),
        ("params.augment=false", [2]),
        ("tags.team~R", [1, 2]),
        ("tags.team=risk", [1]),
        ("tags.ticket", [1]),
        ("tags.ticket=''", [1]),
        ("directions.auc=max", [1]),
        ("dataset=customers and dataset=weather", [1]),
        ("dataset!=customers", [1]),
        (f"dataset={'cd' * 32}", [1]),
        ("artifact=model.onnx and size>1002", [3, 4]),
        ("artifact~MODEL and not params.depth", [4]),
        ("stored<2026-03-14T09:26:53.000003", [1, 2]),
        ("by=ada and host=trainer-1 and revision=1", [1, 2, 3, 4]),
        (f"run={worlds.guid(3)}", [3]),
        ('metrics.auc="0.91\'; DROP TABLE facts; --"', []),
    ],
)
def test_query_finds(found: Found, query: str, numbers: list[int]) -> None:
    assert found(query) == numbers


@pytest.mark.parametrize(
    ("sort", "numbers"),
    [
        ("metrics.auc", [1, 3, 2, 4]),
        ("-metrics.auc", [3, 1, 2, 4]),
        ("-metrics.loss", [2, 1, 3, 4]),
        ("params.depth", [1, 3, 2, 4]),
        ("-params.depth", [3, 1, 2, 4]),
        ("-size", [4, 3, 2, 1]),
        ("run", [1, 2, 3, 4]),
    ],
)
def test_sorted_numbers_come_before_words_and_what_lacks_it_last(
    found: Found, sort: str, numbers: list[int]
) -> None:
    assert found("experiment=churn", sort) == numbers


@pytest.mark.parametrize("name", ["format", "artifacts", "dataset", "nothing", "metrics."])
def test_nothing_is_sorted_by_what_there_is_several_times_or_never(found: Found, name: str) -> None:
    with pytest.raises(UsageError):
        found("experiment=churn", name)


def holds(tree: Tree, metadata: Metadata) -> bool:
    """Return what a query means for metrics, said once more and slowly."""
    if isinstance(tree, Not):
        return not holds(tree.item, metadata)
    if isinstance(tree, Every | Either):
        told = [holds(each, metadata) for each in tree.items]
        return all(told) if isinstance(tree, Every) else any(told)
    text = metadata.metrics.get(tree.field.removeprefix("metrics."))
    if text is None:
        return False
    mine, theirs = number_of(text), number_of(tree.value)
    if theirs is None:
        same = text == tree.value
        order = 0 if mine is not None else (text > tree.value) - (text < tree.value)
        is_ordered = mine is None
    else:
        same = mine == theirs
        order = 0 if mine is None else (mine > theirs) - (mine < theirs)
        is_ordered = mine is not None
    return {
        "=": same,
        "!=": not same,
        "<": is_ordered and order < 0,
        "<=": is_ordered and order <= 0,
        ">": is_ordered and order > 0,
        ">=": is_ordered and order >= 0,
    }[tree.operator]


VALUES = st.sampled_from(
    ["0.3", "0.91", "0.95", "1", "1.0", "-1", "nan", "inf", "-inf", "word", ""]
)
METRICS = st.sampled_from(["metrics.auc", "metrics.loss", "metrics.val loss", "metrics.none"])
ASKED = st.recursive(
    st.builds(comparison, METRICS, st.sampled_from(["=", "!=", "<", "<=", ">", ">="]), VALUES),
    lambda inner: (
        st.builds(Not, inner)
        | st.lists(inner, min_size=2, max_size=3).map(lambda items: Every(tuple(items)))
        | st.lists(inner, min_size=2, max_size=3).map(lambda items: Either(tuple(items)))
    ),
    max_leaves=6,
)


@given(ASKED)
def test_the_index_finds_what_a_plain_reading_finds(found: Found, tree: Tree) -> None:
    assert found(written(tree)) == [number for number, said in SAID.items() if holds(tree, said)]
