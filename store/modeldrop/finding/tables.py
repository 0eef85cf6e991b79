"""What is put into the index's tables, and never taken back but by what is newer."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence

from modeldrop import layout
from modeldrop.finding.facts import facts, formats_of, shown
from modeldrop.names import is_experiment
from modeldrop.records import Head, Revision, Version


def note_journal(db: sqlite3.Connection, home: str, reached: Head) -> None:
    """Note how far a home's journal was read."""
    place = (reached.seq, reached.start, reached.offset, reached.sha256)
    db.execute("INSERT OR REPLACE INTO journals VALUES (?, ?, ?, ?, ?)", (home, *place))


def note_heads(db: sqlite3.Connection, heads: Iterable[tuple[str, int]]) -> None:
    """Note how far experiments have come."""
    db.executemany(
        "INSERT INTO heads VALUES (?, ?) ON CONFLICT DO UPDATE SET newest = excluded.newest "
        "WHERE excluded.newest > newest",
        ((name, newest) for name, newest in heads if is_experiment(name)),
    )


def note_newest(
    db: sqlite3.Connection, table: str, said: Sequence[str], rows: Sequence[tuple[object, ...]]
) -> None:
    """Note what the newest records of sequences say; the first column of `said` is their number."""
    if rows:
        marks = ", ".join("?" * len(rows[0]))
        new = ", ".join(f"{each} = excluded.{each}" for each in said)
        db.executemany(
            # Tables and columns are named by `standing` alone.
            f"INSERT INTO {table} VALUES ({marks}) ON CONFLICT DO UPDATE SET {new} "  # noqa: S608 - see above
            f"WHERE excluded.{said[0]} > {table}.{said[0]}",
            rows,
        )


def want(db: sqlite3.Connection, runs: Iterable[tuple[str, int]]) -> None:
    """Note last revisions of runs that are to be read, unless as much is known."""
    for run, revision in runs:
        known = db.execute(
            "SELECT 1 FROM revisions WHERE run = ? AND last AND revision >= ?", (run, revision)
        )
        if layout.is_run_folder(run) and known.fetchone() is None:
            db.execute(
                "INSERT INTO wanted VALUES (?, ?) ON CONFLICT DO UPDATE SET "
                "revision = excluded.revision WHERE excluded.revision > revision",
                (run, revision),
            )


def forget_after(db: sqlite3.Connection, experiment: str, newest: int) -> None:
    """Forget versions that aren't there any more: the backend was put back to an earlier state."""
    place = (experiment, newest)
    db.execute("DELETE FROM versions WHERE experiment = ? AND version > ?", place)
    db.execute("DELETE FROM vacant WHERE experiment = ? AND version > ?", place)
    db.execute("DELETE FROM retirements WHERE experiment = ? AND version > ?", place)
    db.execute("INSERT OR REPLACE INTO heads VALUES (?, ?)", place)


def insert_versions(db: sqlite3.Connection, versions: Iterable[Version]) -> None:
    """Insert versions whose runs are still to be looked at, unless they are there."""
    db.executemany(
        # Whoever was quicker may have looked at the runs since.
        "INSERT OR IGNORE INTO versions VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, 1)",
        (
            (
                *(each.experiment, each.version, each.run, each.revision, each.artifact),
                *(each.sha256, each.size, each.host, each.registered_by, each.registered_at),
                each.description,
            )
            for each in versions
        ),
    )


def insert_revision(db: sqlite3.Connection, revision: Revision) -> int:
    """Insert a revision, unless it is there; return its number in the index."""
    known = db.execute(
        "SELECT id FROM revisions WHERE run = ? AND revision = ?",
        (revision.run, revision.revision),
    ).fetchone()
    if known is not None:
        return int(known[0])
    artifacts = [
        {"artifact": each.artifact, "type": each.type, "sha256": each.sha256, "size": each.size}
        for each in revision.artifacts
    ]
    formats, metadata = formats_of(revision), shown(revision)
    number = db.execute(
        "INSERT INTO revisions (run, revision, last, experiment, size, host, committed_by, "
        "committed_at, artifacts, metadata, formats) VALUES (?, ?, 0, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(revision.run, revision.revision, revision.experiment),
            sum(each.size for each in revision.artifacts),
            *(revision.host, revision.committed_by, revision.committed_at),
            json.dumps(artifacts, ensure_ascii=False),
            json.dumps(metadata, ensure_ascii=False) if metadata else None,
            json.dumps(formats, ensure_ascii=False) if formats else None,
        ),
    ).lastrowid
    # A record may say the same thing twice.
    db.executemany(
        "INSERT OR IGNORE INTO facts VALUES (?, ?, ?, ?)",
        ((name, number, text, value) for name, text, value in facts(revision)),
    )
    db.executemany(
        "INSERT OR IGNORE INTO formats VALUES (?, ?, ?, ?)", ((number, *each) for each in formats)
    )
    return int(number or 0)


def mark_last(db: sqlite3.Connection, run: str, revision: int) -> None:
    """Make a revision its run's last one, unless a later one is."""
    later = db.execute(
        "SELECT 1 FROM revisions WHERE run = ? AND revision > ? AND last", (run, revision)
    )
    if later.fetchone() is None:
        db.execute("UPDATE revisions SET last = 0 WHERE run = ? AND last", (run,))
        db.execute("UPDATE revisions SET last = 1 WHERE run = ? AND revision = ?", (run, revision))
