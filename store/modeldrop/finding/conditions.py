"""Which fields versions and runs have, and what a query, a sort or a column asks of the index.

A comparison is true only of what has the field: `params.depth!=8` of runs that have another depth,
and `not params.depth=8` of those as well that have none. Where a value reads as a number, it is
held against numbers alone, as a number; any other as text. A field with several values, such as
`format`, is held against each of them, and one will do.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Final

from modeldrop.errors import UsageError
from modeldrop.finding.facts import OPEN, TEXTS, Number, number_of
from modeldrop.finding.query import Comparison, Either, Every, Not, Tree, refuse
from modeldrop.names import printable
from modeldrop.structs import Frozen, Struct, field

FORMAT: Final = "format"
RUNS_CODE: Final = "runs_code"
ALIAS: Final = "alias"
TARGET: Final = "target"
RETIRED: Final = "retired"
# What is live: at the place that the target has now.
LIVE: Final = "live l JOIN targets t ON t.target = l.target AND t.url = l.url"
# How listings call what there may be several of.
_SYNONYMS: Final = {"aliases": ALIAS, "formats": FORMAT, "artifacts": "artifact", "targets": TARGET}

_OPERATORS: Final = frozenset({"=", "!=", "<", "<=", ">", ">="})


class Unit(Frozen):
    """What is looked for: versions, or runs by their last revision."""

    name: str
    texts: Mapping[str, str]
    """The columns of its records that are text, by the names of their fields."""
    numbers: Mapping[str, str]
    """Those that are numbers."""
    tables: str
    """`r` is the revision; of a version the one that it pins, whose record may be missing."""
    always: str
    order: str
    """What comes first where nothing is said: the newest."""
    formats: str
    """Which formats of the revision are its own."""
    several: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """What may be on it several times: the column, and the rows that are on it."""
    foreign: Mapping[str, str] = field(default_factory=dict)
    """Fields of the other unit, with what to say of them."""

    def fields(self) -> list[str]:
        """Return the names of all fields but those that a run makes up."""
        found = {*self.texts, *self.numbers, *TEXTS, FORMAT, RUNS_CODE}
        return sorted(found | set(self.several))


VERSIONS: Final = Unit(
    name="version",
    texts={
        "experiment": "v.experiment",
        "run": "v.run",
        "artifact": "v.artifact",
        "sha256": "v.sha256",
        "host": "v.host",
        "by": "v.registered_by",
        "registered": "v.registered_at",
        "description": "v.description",
        RETIRED: "iif(EXISTS (SELECT 1 FROM retirements t WHERE t.experiment = v.experiment "
        "AND t.version = v.version AND t.retired), 'true', 'false')",
    },
    numbers={"version": "v.version", "revision": "v.revision", "size": "v.size"},
    tables="versions v LEFT JOIN revisions r ON r.id = v.said",
    always="1",
    order="v.experiment, v.version DESC",
    formats="(v.artifact = '.' OR f.artifact = v.artifact)",
    several={
        ALIAS: (
            "a.alias",
            "aliases a WHERE a.experiment = v.experiment AND a.version = v.version AND",
        ),
        TARGET: (
            "l.target",
            f"{LIVE} WHERE l.experiment = v.experiment AND l.version = v.version AND",
        ),
    },
    foreign={"stored": "a version was registered: write `registered`"},
)
RUNS: Final = Unit(
    name="run",
    texts={
        "experiment": "r.experiment",
        "run": "r.run",
        "host": "r.host",
        "by": "r.committed_by",
        "stored": "r.committed_at",
    },
    numbers={"revision": "r.revision", "size": "r.size"},
    tables="revisions r",
    always="r.last",
    order="r.committed_at DESC, r.run DESC",
    formats="1",
    foreign={
        "registered": "a run was stored: write `stored`",
        **dict.fromkeys(
            (ALIAS, TARGET, RETIRED, "version", "description", "sha256"),
            "versions have it, and this looks for runs: leave out `--runs`",
        ),
    },
)


class Condition(Struct):
    """SQL with the values that belong into its question marks."""

    sql: str
    values: list[object]

    def within(self, rows: str) -> Condition:
        """Return that there are such rows that this holds for."""
        # What is put together here comes from this module; what people wrote is in the values.
        return Condition(f"EXISTS (SELECT 1 FROM {rows} {self.sql})", self.values)  # noqa: S608 - see above


def canonical(name: str) -> str:
    """Return a field's own name."""
    return _SYNONYMS.get(name, name)


def refused(unit: Unit, name: str) -> tuple[str, str] | None:
    """Return why a unit has no such field, and what to write; None if it has."""
    if name in unit.foreign:
        return f"no {unit.name} has the field `{name}`", unit.foreign[name]
    group, dot, rest = name.partition(".")
    if (dot and rest and group in OPEN) or name in unit.fields():
        return None
    near = difflib.get_close_matches(name, [*unit.fields(), *(f"{each}.…" for each in OPEN)], 1)
    every = ", ".join((*unit.fields(), *(f"{each}.NAME" for each in OPEN)))
    meant = f"did you mean `{near[0]}`? " if near else ""
    return f"there is no field {printable(name)!r}", f"{meant}the fields are {every}"


def condition(unit: Unit, tree: Tree, query: str) -> Condition:
    """Return what a query asks of the index.

    Raises:
        InvalidQuery: the unit has no such field, or it can't be compared with that.
    """
    if isinstance(tree, Comparison):
        return _comparison(unit, tree, query)
    if isinstance(tree, Not):
        inner = condition(unit, tree.item, query)
        return Condition(f"NOT {inner.sql}", inner.values)
    word = {Every: " AND ", Either: " OR "}[type(tree)]
    parts = [condition(unit, each, query) for each in tree.items]
    return Condition(
        f"({word.join(each.sql for each in parts)})",
        [value for each in parts for value in each.values],
    )


def _comparison(unit: Unit, asked: Comparison, query: str) -> Condition:
    name = canonical(asked.field)
    why = refused(unit, name)
    if why is not None:
        refuse(query, asked.at, *why)
    if name in unit.numbers:
        return _of_number(unit.numbers[name], asked, query)
    if name in unit.texts:
        none = "false" if name == RETIRED else ""
        if not asked.operator:
            return Condition(f"ifnull({unit.texts[name]}, '') != ?", [none])
        return _null_is_false(_of_text(unit.texts[name], asked))
    if name in {FORMAT, RUNS_CODE}:
        column = "f.kind" if name == FORMAT else "iif(f.runs_code, 'true', 'false')"
        inner = _of_text(column, asked) if asked.operator else Condition("1", [])
        return inner.within(f"formats f WHERE f.revision = r.id AND {unit.formats} AND")
    if name in unit.several:
        column, rows = unit.several[name]
        inner = _of_text(column, asked) if asked.operator else Condition("1", [])
        return inner.within(rows)
    inner = _of_fact(name, asked)
    # One look through all facts of that name, not one for each revision. A version whose manifest
    # can't be read has no revision.
    return Condition(
        f"ifnull(r.id, 0) IN (SELECT revision FROM facts WHERE name = ? AND {inner.sql})",  # noqa: S608 - as in `within`
        [name, *inner.values],
    )


def _of_number(column: str, asked: Comparison, query: str) -> Condition:
    if not asked.operator:
        return Condition("1", [])
    number = number_of(asked.value)
    if number is None or asked.operator not in _OPERATORS:
        refuse(query, asked.value_at, f"`{asked.field}` is a number, and is compared with one")
    return Condition(f"{column} {asked.operator} ?", [number])


def _of_fact(name: str, asked: Comparison) -> Condition:
    if not asked.operator:
        return Condition("1", [])
    number: Number | None = None if name in TEXTS else number_of(asked.value)
    if number is None or asked.operator == "~":
        sort = " AND number IS NULL" if asked.operator[0] in "<>" else ""
        inner = _of_text("text", asked)
        return Condition(inner.sql + sort, inner.values)
    if asked.operator == "!=":
        return Condition("(number IS NULL OR number != ?)", [number])
    return Condition(f"number {asked.operator} ?", [number])


def _of_text(column: str, asked: Comparison) -> Condition:
    if asked.operator == "~":
        return Condition(f"instr(lower({column}), lower(?)) > 0", [asked.value])
    return Condition(f"{column} {asked.operator} ?", [asked.value])


def _null_is_false(inner: Condition) -> Condition:
    return Condition(f"ifnull({inner.sql}, 0)", inner.values)


class Sort(Frozen):
    """By which field a listing is sorted; what doesn't have it comes last either way."""

    field: str
    descending: bool = False

    @classmethod
    def of(cls, text: str) -> Sort:
        """Return the sort that `metrics.auc` means, or `-metrics.auc` for the largest first."""
        return cls(canonical(text.removeprefix("-")), text.startswith("-"))


def ordered(unit: Unit, sort: Sort | None) -> tuple[str, list[object], str]:
    """Return the tables with what a sort joins to them, its values, and the order.

    Raises:
        UsageError: it can't be sorted by that.
    """
    if sort is None:
        return unit.tables, [], unit.order
    check_single(unit, sort.field)
    way = "DESC" if sort.descending else "ASC"
    column = unit.numbers.get(sort.field) or unit.texts.get(sort.field)
    if column is not None:
        return unit.tables, [], f"{column} IS NULL, {column} {way}, {unit.order}"
    tables = f"{unit.tables} LEFT JOIN facts s ON s.name = ? AND s.revision = r.id"
    # Numbers before words, whichever way they go.
    order = f"s.text IS NULL, s.number IS NULL, s.number {way}, s.text {way}, {unit.order}"
    return tables, [sort.field], order


def check_single(unit: Unit, name: str) -> None:
    """Make sure that a field is one that each has once at most.

    Raises:
        UsageError: there is no such field, or there may be several of it.
    """
    why = refused(unit, name)
    if why is not None:
        raise UsageError(why[0], hint=why[1])
    several = {FORMAT, RUNS_CODE, "dataset", *unit.several}
    if name in several or (name == "artifact" and unit is RUNS):
        message = f"nothing is sorted by `{name}`: there may be several"
        raise UsageError(message, hint="sort by a metric, a parameter, a name, a size or a time")
