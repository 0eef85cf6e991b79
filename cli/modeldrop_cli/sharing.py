"""Sharing journals, at the end of a command that wrote, and as people are told of it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from modeldrop.errors import IntegrityError, Locked, ModeldropError, NotTheWriter
from modeldrop_cli.output import say

if TYPE_CHECKING:
    from modeldrop.repository import Repository
    from modeldrop.sync import FetchedJournal
    from modeldrop_cli.objects.sharing import FetchedJournalObject
    from modeldrop_cli.output import Output


def share(repository: Repository) -> None:
    """Share what this command has put down in the journal; that it fails is said, and no more.

    What the command was asked for is done and told by then.
    """
    sys.stdout.flush()
    try:
        repository.push(timeout=0)
    except Locked:
        # Whoever is at it, the service or another command, shares this too, or does it next.
        pass
    except NotTheWriter:
        # What a home did that only reads is of interest to nobody else.
        pass
    except (ModeldropError, OSError) as error:
        hint = f" ({error.hint})" if isinstance(error, ModeldropError) and error.hint else ""
        say(f"Not shared with other hosts yet, the next push does it: {error}{hint}")


def journal_object(journal: FetchedJournal) -> FetchedJournalObject:
    """Return what a fetch learned of another home's journal."""
    return {
        "home": journal.home,
        "host": journal.host,
        "entries": journal.entries,
        "seq": journal.seq,
        "trouble": journal.trouble.message if journal.trouble else None,
    }


def tell_journals(journals: Sequence[FetchedJournal], output: Output) -> None:
    """Print what a fetch learned of other homes' journals."""
    output.table(
        ("home", "host", "new", "entries"),
        [(each.home, each.host, str(each.entries), str(each.seq)) for each in journals],
        right="new entries",
    )
    if not journals:
        output.say("No other home has shared its journal through this backend yet.")


def raise_troubles(journals: Sequence[FetchedJournal]) -> None:
    """Raise what was wrong with journals, after the others were told.

    Raises:
        ModeldropError: something was.
    """
    troubles = [each.trouble for each in journals if each.trouble is not None]
    if len(troubles) == 1:
        raise troubles[0]
    if troubles:
        worst = max(troubles, key=lambda each: isinstance(each, IntegrityError))
        told = type(worst)(
            "; ".join(each.message for each in troubles), hint=worst.hint, detail=worst.detail
        )
        raise told from worst
