"""The language of `search`: what is asked of versions or runs, as text and as a tree.

    query       = conjunction { "or" conjunction }
    conjunction = negation { "and" negation }
    negation    = "not" negation | "(" query ")" | comparison
    comparison  = field [ operator value ]
    operator    = "=" | "==" | "!=" | "<" | "<=" | ">" | ">=" | "~"
    field       = word | word text            metrics.auc, metrics."val loss"
    value       = word | text
    word        = characters other than white space and ( ) < > = ! ~ " '
    text        = "…" or '…', in which a backslash takes the next character as it is

`and`, `or` and `not` may be written in any case; where they are meant as values, they stand in
quotes. Which fields there are, `conditions` says; docs/finding.md tells people.
"""

from __future__ import annotations

import re
from typing import Final, NoReturn

from modeldrop.errors import InvalidQuery
from modeldrop.names import printable
from modeldrop.structs import Frozen

# Far more than a person writes, and far from where SQLite and Python's stack give up.
_MOST_COMPARISONS: Final = 200
_MOST_DEPTH: Final = 40

_TOKEN: Final = re.compile(
    r"""
    (?P<space>\s+)
    | (?P<operator><=|>=|!=|==|=|<|>|~)
    | (?P<bracket>[()])
    | (?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    | (?P<word>[^\s()<>=!~"']+)
    """,
    re.VERBOSE | re.DOTALL,
)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


class Comparison(Frozen):
    """A field held against a value; without an operator, whether there is such a field."""

    field: str
    operator: str
    value: str
    at: int
    """Where it begins in the query, counted from 1; `value_at` is the same of its value."""
    value_at: int


class Not(Frozen):
    """What is so where this is not."""

    item: Tree


class Every(Frozen):
    """What is so where all of these are."""

    items: tuple[Tree, ...]


class Either(Frozen):
    """What is so where one of these is."""

    items: tuple[Tree, ...]


Tree = Comparison | Not | Every | Either


class _Token(Frozen):
    kind: str
    text: str
    start: int
    end: int

    @property
    def is_own(self) -> bool:
        """Whether it is a word of the language; in quotes it is none."""
        return self.kind == "word" and self.text.lower() in {"and", "or", "not"}

    @property
    def may_be_value(self) -> bool:
        return self.kind in {"word", "text"} and not self.is_own


def parse(query: str) -> Tree:
    """Return the tree of a query.

    Raises:
        InvalidQuery: it can't be read; the message and `detail["at"]` say where.
    """
    return _Parser(query).whole()


def refuse(query: str, at: int, why: str, hint: str = "") -> NoReturn:
    """Raise the error that says what is wrong with a query, and where, counted from 1."""
    near = printable(query[at - 1 : at + 19]) or "its end"
    raise InvalidQuery(
        f"the query is wrong at character {at} ({near}): {why}",
        hint=hint
        or "write it like `experiment=churn and metrics.auc>0.9`; docs/finding.md has "
        "the whole language",
        detail={"query": query, "at": at},
    )


class _Parser:
    """Reads one query from left to right, by recursive descent."""

    def __init__(self, query: str) -> None:
        self._query = query
        self._tokens = self._split()
        self._next = 0
        self._depth = 0
        self._comparisons = 0

    def whole(self) -> Tree:
        if not self._tokens:
            self._refuse(1, "it is empty")
        tree = self._either()
        if (left := self._peek()) is not None:
            closing = "there is a `)` and no `(` for it"
            self._refuse(
                left.start, closing if left.text == ")" else "`and` or `or` was expected here"
            )
        return tree

    def _split(self) -> list[_Token]:
        found: list[_Token] = []
        at = 0
        while at < len(self._query):
            match = _TOKEN.match(self._query, at)
            if match is None:
                char = self._query[at]
                ends = "the text that begins here has no end"
                lonely = "`!` stands only in `!=`; to turn a question round, write `not`"
                self._refuse(at + 1, lonely if char == "!" else ends)
            if match.lastgroup != "space":
                kind = match.lastgroup or ""
                found.append(_Token(kind, match[0], at + 1, match.end() + 1))
            at = match.end()
        return found

    def _either(self) -> Tree:
        items = [self._every()]
        while self._take_word("or"):
            items.append(self._every())
        return items[0] if len(items) == 1 else Either(tuple(items))

    def _every(self) -> Tree:
        items = [self._negation()]
        while self._take_word("and"):
            items.append(self._negation())
        return items[0] if len(items) == 1 else Every(tuple(items))

    def _negation(self) -> Tree:
        begins = self._peek()
        self._depth += 1
        if begins is not None and self._depth > _MOST_DEPTH:
            self._refuse(begins.start, f"it goes more than {_MOST_DEPTH} levels deep")
        try:
            if self._take_word("not"):
                return Not(self._negation())
            if begins is not None and begins.text == "(" and begins.kind == "bracket":
                self._next += 1
                inner = self._either()
                closes = self._peek()
                if closes is None or closes.text != ")":
                    at = closes.start if closes else len(self._query) + 1
                    self._refuse(at, f"the `(` at character {begins.start} has no `)`")
                self._next += 1
                return inner
            return self._comparison()
        finally:
            self._depth -= 1

    def _comparison(self) -> Comparison:
        token = self._peek()
        if token is None:
            self._refuse(len(self._query) + 1, "a field was expected, and it ends")
        if token.kind != "word" or token.is_own:
            self._refuse(token.start, "a field was expected, such as `metrics.auc`")
        self._next += 1
        self._comparisons += 1
        if self._comparisons > _MOST_COMPARISONS:
            self._refuse(token.start, f"it asks more than {_MOST_COMPARISONS} things")
        field, after = token.text, self._peek()
        if field.endswith(".") and after and after.kind == "text" and after.start == token.end:
            field += _bare(after.text)
            self._next += 1
        operator = self._peek()
        if operator is None or operator.kind != "operator":
            return Comparison(field, "", "", token.start, token.start)
        self._next += 1
        value = self._peek()
        if value is None or not value.may_be_value:
            at = value.start if value else len(self._query) + 1
            self._refuse(at, f"a value was expected after `{operator.text}`")
        self._next += 1
        text = _bare(value.text) if value.kind == "text" else value.text
        sign = "=" if operator.text == "==" else operator.text
        return Comparison(field, sign, text, token.start, value.start)

    def _take_word(self, word: str) -> bool:
        token = self._peek()
        if token is None or token.kind != "word" or token.text.lower() != word:
            return False
        self._next += 1
        return True

    def _peek(self) -> _Token | None:
        return self._tokens[self._next] if self._next < len(self._tokens) else None

    def _refuse(self, at: int, why: str) -> NoReturn:
        refuse(self._query, at, why)


def _bare(text: str) -> str:
    return _ESCAPED.sub(r"\1", text[1:-1])
