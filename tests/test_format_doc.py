"""docs/format.md is true: its examples are what the code writes, and what the code reads."""

from __future__ import annotations

import hashlib
import importlib
import json
import pkgutil
import re
from pathlib import Path
from typing import Final

import pytest

import modeldrop
from modeldrop import form
from modeldrop.errors import NewerFormat, RecordDamaged
from modeldrop.form import Fields, Json, Record, canonical, seal
from modeldrop.journal import lines
from support.format_examples import EXAMPLES, entry_line

PAGE: Final = Path(__file__).parents[1] / "docs" / "format.md"
SHOWN: Final = re.findall(r"```json\n(.*?\n)```", PAGE.read_text("utf-8"), re.DOTALL)
EVERY: Final = [json.loads(text) for text in SHOWN]
SHOWN_RECORDS: Final = {
    found["kind"]: text.encode()
    for text, found in zip(SHOWN, EVERY, strict=True)
    if "record_sha256" in found
}


def subclasses(cls: type[Record]) -> list[type[Record]]:
    """Return every class of records in the library."""
    for module in pkgutil.walk_packages(modeldrop.__path__, "modeldrop."):
        importlib.import_module(module.name)
    # The programs have records of their own, and are loaded or not.
    return [each for each in cls.__subclasses__() if each.__module__.startswith("modeldrop.")]


CLASSES: Final = {cls.kind: cls for cls in subclasses(Record)}
# What a home may lose without losing anything that was acknowledged, so that it is no part of the
# format.
DISPOSABLE: Final = {
    *("begun-upload", "cached", "deletion", "fetched-at", "run-memory", "run-request"),
    *("run-standing", "spent-marker", "status"),
}


def part_names(value: Json) -> set[str]:
    """Return the keys of an object and of all those in it."""
    if isinstance(value, dict):
        return set(value).union(*(part_names(each) for each in value.values()))
    if isinstance(value, list):
        return set().union(*(part_names(each) for each in value))
    return set()


def test_every_kind_of_record_has_an_example() -> None:
    assert set(SHOWN_RECORDS) == set(CLASSES) - DISPOSABLE
    assert len(SHOWN_RECORDS) >= 10


def test_examples_are_those_records_and_one_line_of_the_journal() -> None:
    journal = [text for text, found in zip(SHOWN, EVERY, strict=True) if "prev" in found]

    assert len(SHOWN) == len(SHOWN_RECORDS) + 1
    assert journal == [entry_line().decode()]


@pytest.mark.parametrize("kind", SHOWN_RECORDS)
def test_example_is_read_by_its_class_and_written_the_same_again(kind: str) -> None:
    data = SHOWN_RECORDS[kind]
    record = CLASSES[kind].from_bytes(data, "docs/format.md")

    assert record == EXAMPLES[kind]
    assert record.to_bytes() == data


@pytest.mark.parametrize("kind", SHOWN_RECORDS)
def test_example_has_every_field_and_its_parts_do_too(kind: str) -> None:
    found = json.loads(SHOWN_RECORDS[kind])
    cls = CLASSES[kind]
    # What was imported says so once, in a vacant version.
    own = {each for each in cls.__struct_fields__ if each != "origin" or kind == "vacant-version"}

    assert set(found) == own | {"format", "kind", "record_sha256"}
    for name, _, how in form._fields_of(cls):
        if how and how.part and name in own:
            assert {*how.part.__struct_fields__} <= part_names(found[name]), name


@pytest.mark.parametrize("kind", SHOWN_RECORDS)
def test_digest_of_an_example_is_that_of_its_canonical_form(kind: str) -> None:
    found = json.loads(SHOWN_RECORDS[kind])
    digest = found.pop("record_sha256")
    compact = json.dumps(found, ensure_ascii=False, sort_keys=True, separators=(",", ":"))

    assert hashlib.sha256(compact.encode()).hexdigest() == digest


@pytest.mark.parametrize("kind", SHOWN_RECORDS)
def test_any_flipped_bit_of_an_example_is_damage(kind: str) -> None:
    data, cls = SHOWN_RECORDS[kind], CLASSES[kind]

    # The last byte is the newline, which no JSON needs.
    for at in range(len(data)):
        bad = bytearray(data)
        bad[at] ^= 1 << (at % 8)
        with pytest.raises(RecordDamaged):
            cls.from_bytes(bytes(bad), "docs/format.md")


@pytest.mark.parametrize("kind", SHOWN_RECORDS)
def test_field_that_a_reader_doesnt_know_is_ignored_but_for_the_digest(kind: str) -> None:
    cls, found = CLASSES[kind], bare(SHOWN_RECORDS[kind])
    found["zz_later"] = {"any": ["thing"]}
    data = sealed(found)

    assert cls.from_bytes(data, "here") == EXAMPLES[kind]
    with pytest.raises(RecordDamaged):
        cls.from_bytes(data.replace(b"thing", b"thong"), "here")


@pytest.mark.parametrize("kind", SHOWN_RECORDS)
def test_example_of_a_later_format_is_refused_with_what_it_needs(kind: str) -> None:
    cls, found = CLASSES[kind], bare(SHOWN_RECORDS[kind])
    later = sealed({**found, "format": 2, "needs": "modeldrop 2.0"})

    with pytest.raises(NewerFormat, match="format 2") as caught:
        cls.from_bytes(later, "here")

    assert "modeldrop 2.0" in caught.value.hint
    assert caught.value.exit_code == 2
    # A flipped bit in the number is damage, not news.
    with pytest.raises(RecordDamaged):
        cls.from_bytes(re.sub(rb'"format": ?1', b'"format":3', SHOWN_RECORDS[kind]), "here")


def test_line_of_the_journal_reads_as_the_page_says() -> None:
    line = entry_line()
    entry = lines.parse(line, 4096)
    body, digest = line[: -lines.SEAL_SIZE], line[-67:-3]

    assert tuple(json.loads(line)) == lines.KEYS
    assert hashlib.sha256(body).hexdigest().encode() == digest
    assert (entry.seq, entry.start, entry.end) == (7, 4096, 4096 + len(line))
    documented = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", section("### Journal"), re.MULTILINE)
    assert [key for row in documented for key in re.findall(r"`(\w+)`", row)] == list(lines.KEYS)


def test_any_flipped_bit_of_a_line_of_the_journal_is_damage() -> None:
    line = entry_line()

    for at in range(len(line)):
        bad = bytearray(line)
        bad[at] ^= 1 << (at % 8)
        with pytest.raises(lines.NotALine):
            lines.parse(bytes(bad), 0)


def test_line_of_a_later_format_is_refused_as_newer() -> None:
    body = entry_line()[: -lines.SEAL_SIZE].replace(b'{"format":1,', b'{"format":2,')
    digest = hashlib.sha256(body).hexdigest().encode()

    with pytest.raises(NewerFormat, match="format 2"):
        lines.parse(body + b',"sha256":"' + digest + b'"}\n', 0)


def test_every_record_of_the_code_can_be_told_from_the_others() -> None:
    assert len(CLASSES) == len(subclasses(Record))


def section(title: str) -> str:
    """Return what the page says under a title."""
    page = PAGE.read_text("utf-8")
    begin = page.index(f"\n{title}\n")
    return page[begin : page.index("\n#", begin + 1 + len(title))]


def bare(data: bytes) -> Fields:
    """Return the fields of a record without its digest."""
    found: Fields = json.loads(data)
    del found["record_sha256"]
    return found


def sealed(found: Fields) -> bytes:
    """Return a record of these fields with the right digest, whatever its format."""
    digest = hashlib.sha256(canonical(found)).hexdigest()
    text = json.dumps({**found, "record_sha256": digest}, indent=2, sort_keys=True)
    return text.encode() + b"\n"


def test_a_sealed_example_is_what_seal_makes() -> None:
    found = bare(SHOWN_RECORDS["counter"])

    assert sealed(found) == seal("counter", {k: v for k, v in found.items() if k != "kind"})
