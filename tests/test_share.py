"""Shares of what takes long: together they are all of it."""

from __future__ import annotations

import argparse

import pytest

from support.share import Share


def test_each_name_is_in_exactly_one_share_and_no_share_is_empty() -> None:
    names = [f"tests/test_it.py::test_{number}" for number in range(100)]

    shares = [[name for name in names if name in Share(number, 3)] for number in (1, 2, 3)]

    assert sorted(name for share in shares for name in share) == sorted(names)
    assert all(shares)


def test_the_first_of_one_is_everything() -> None:
    assert "anything" in Share.parse("1/1")


@pytest.mark.parametrize("text", ["", "1", "/", "0/3", "4/3", "-1/3", "a/b", "1/0", "1/3/5"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="a share is like 2/3"):
        Share.parse(text)
