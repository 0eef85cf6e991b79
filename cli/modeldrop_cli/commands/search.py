"""`modeldrop search`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from modeldrop_cli import columns as listing
from modeldrop_cli.command import Command, exits, open_repository, output_options
from modeldrop_cli.output import when

if TYPE_CHECKING:
    from modeldrop.errors import IntegrityError
    from modeldrop.finding import Answer, FoundRun, FoundVersion
    from modeldrop_cli.objects.finding import SearchObject, SearchRunsObject
    from modeldrop_cli.output import Output


@click.command(
    "search",
    cls=Command,
    examples=(
        (
            "modeldrop search 'experiment=churn and metrics.auc>0.9 and params.depth<=8'",
            "versions of churn that are good and not deep",
        ),
        (
            "modeldrop search 'format=onnx and not alias' --sort -metrics.auc",
            "ONNX models that no alias is on, the largest auc first",
        ),
        (
            "modeldrop search --runs 'tags.team=risk and stored>=2026-03-01' -q",
            "runs, registered or not, by their ids",
        ),
        ("modeldrop search 'description~\"beats the\"'", "what was said of a version"),
    ),
    exits=exits(
        2,
        10,
        12,
        20,
        30,
        e2="the query can't be read; the error says at which character",
        e10="there is no home",
        e20="a record is damaged; the others were searched",
    ),
)
@click.argument("query")
@click.option("--runs", is_flag=True, help="Look for runs, registered or not, not for versions.")
@listing.listing_options
@output_options
def command(
    query: str,
    runs: bool,  # noqa: FBT001 - click's signature
    sort: str | None,
    columns: str | None,
    most: int | None,
    output: Output,
) -> None:
    """Find versions, or runs, by what is known of them.

    A query is made of comparisons (=, !=, <, <=, >, >=, and ~ for "contains") with `and`, `or`,
    `not` and parentheses; a field alone asks whether it is there. docs/finding.md has the fields.

    The backend isn't asked: the answer tells what this home knows. Of other hosts that is what they
    had done when their journals were fetched, by the service or by `modeldrop fetch`.
    """
    from modeldrop_cli.stored import tell_damaged  # noqa: PLC0415 - not for `--help`

    by = listing.sort_of(sort)
    names = listing.run_columns(columns) if runs else listing.version_columns(columns)
    damaged: list[IntegrityError] = []
    with open_repository() as repository:
        listing.tell_reading(repository, output)
        ask = repository.finding.search_runs if runs else repository.finding.search
        answer = ask(query, sort=by, most=most, damaged=damaged.append)
        # An embedded backend has no other hosts.
        is_alone = not repository.home.config.backend.url
    if runs:
        _tell_runs(query, cast("Answer[FoundRun]", answer), names, output)
    else:
        _tell_versions(query, cast("Answer[FoundVersion]", answer), names, output)
    if not output.json:
        if not answer.found:
            output.say(f"No {'run' if runs else 'version'} is like that.")
        if not is_alone:
            since = f"since {when(answer.as_of)}" if answer.as_of else "yet"
            output.say(f"What other hosts did {since} isn't known here; `modeldrop fetch` gets it.")
    tell_damaged(damaged)


def _tell_versions(
    query: str, answer: Answer[FoundVersion], names: list[str], output: Output
) -> None:
    if output.json:
        told: SearchObject = {
            "query": query,
            "as_of": answer.as_of,
            "versions": [listing.version_object(each) for each in answer.found],
        }
        output.document(told)
    elif output.quiet:
        for each in answer.found:
            output.id(each.reference)
    else:
        listing.show_versions(answer.found, names, output)


def _tell_runs(query: str, answer: Answer[FoundRun], names: list[str], output: Output) -> None:
    if output.json:
        told: SearchRunsObject = {
            "query": query,
            "as_of": answer.as_of,
            "runs": [listing.run_object(each) for each in answer.found],
        }
        output.document(told)
    elif output.quiet:
        for each in answer.found:
            output.id(each.run)
    else:
        listing.show_runs(answer.found, names, output)
