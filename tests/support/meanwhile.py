"""What happens between two steps of the product, as another process would have it."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest


def meanwhile(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str, happens: Callable[[], object]
) -> None:
    """Have something happen once: after the next call of this, before its answer is used."""
    real = getattr(owner, name)
    due = [happens]

    def calls(*args: object, **named: object) -> object:
        answer = real(*args, **named)
        if isinstance(answer, Iterator):
            answer = iter([*answer])
        while due:
            due.pop()()
        return answer

    monkeypatch.setattr(owner, name, calls)
