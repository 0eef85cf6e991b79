"""The generated parts of docs/cli.md and docs/json.md, and what their tests compare with."""

import types
from collections.abc import Iterator
from typing import Annotated, Any, Final, get_args, get_origin, get_type_hints, is_typeddict

import click

from modeldrop_cli.command import EXITS
from modeldrop_cli.main import COMMANDS, PROGRAM, SECTIONS, cli
from modeldrop_cli.objects.printed import PRINTED

_WIDTH: Final = 80


def commands() -> Iterator[tuple[str, click.Command]]:
    """Yield every command with its full name, subcommands after their group."""
    root = click.Context(cli, info_name=PROGRAM)
    for name in COMMANDS:
        command = cli.get_command(root, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            for below, subcommand in command.commands.items():
                yield f"{name} {below}", subcommand


def help_of(name: str, command: click.Command) -> str:
    """Return what `--help` prints for a command, or for the program, on 80 columns."""
    ctx = click.Context(
        command, info_name=name, terminal_width=_WIDTH, help_option_names=["-h", "--help"]
    )
    return f"```text\n{ctx.get_help()}\n```\n"


def program_page() -> str:
    """Return the program's own `--help`."""
    return help_of(PROGRAM, cli)


def command_pages() -> str:
    """Return the reference of all commands: a heading and the `--help` of each, by section."""
    parts = []
    every = list(commands())
    for section, names in SECTIONS.items():
        parts.append(f"## {section}\n")
        for name, command in every:
            if name.split()[0] in names and not isinstance(command, click.Group):
                parts.append(f"### {PROGRAM} {name}\n")
                parts.append(help_of(f"{PROGRAM} {name}", command))
    return "\n".join(parts)


def exit_codes() -> str:
    """Return the table of exit codes."""
    rows = [f"| {code} | {text} |" for code, text in EXITS.items()]
    return "\n".join(["| code | means |", "|---|---|", *rows, ""])


def object_pages() -> str:
    """Return the reference of all JSON objects: those that are printed, then their parts."""
    parts = []
    printed: tuple[type, ...] = PRINTED
    shown: list[type] = []
    for each in printed:
        _collect(each, shown)
    for each in (*printed, *(part for part in shown if part not in printed)):
        parts.append(f"## {title(each)}\n")
        parts.append(f"{(each.__doc__ or '').strip()}\n")
        parts.append("| field | type | meaning |\n|---|---|---|")
        parts += [
            f"| `{name}` | {_spell(kind)} | {meaning} |" for name, kind, meaning in fields(each)
        ]
        parts.append("")
    return "\n".join(parts)


def title(kind: type) -> str:
    """Return the name of an object in the docs: `VersionSummaryObject` is `version summary`."""
    words = "".join(
        f" {char.lower()}" if char.isupper() else char
        for char in kind.__name__.removesuffix("Object")
    )
    return words.strip()


def fields(kind: type) -> Iterator[tuple[str, Any, str]]:
    """Yield name, type and meaning of each field of an object."""
    for name, annotated in get_type_hints(kind, include_extras=True).items():
        assert get_origin(annotated) is Annotated, f"{kind.__name__}.{name} says no meaning"
        bare, meaning = get_args(annotated)
        yield name, bare, meaning


def differences(value: object, kind: Any, where: str = "") -> list[str]:  # noqa: ANN401 - any annotation
    """Return how a value differs from the type that is documented; nothing if it doesn't."""
    if is_typeddict(kind):
        if not isinstance(value, dict):
            return [f"{where}: {value!r} is no object"]
        documented = {name: bare for name, bare, _ in fields(kind)}
        odd = [
            f"{where}.{name}: not both printed and documented" for name in value.keys() ^ documented
        ]
        return odd + [
            each
            for name in value.keys() & documented
            for each in differences(value[name], documented[name], f"{where}.{name}")
        ]
    if get_origin(kind) is types.UnionType:
        tried = [differences(value, each, where) for each in get_args(kind)]
        return min(tried, key=len)
    if get_origin(kind) is list:
        if not isinstance(value, list):
            return [f"{where}: {value!r} is no list"]
        (inner,) = get_args(kind)
        return [each for item in value for each in differences(item, inner, f"{where}[]")]
    expected = get_origin(kind) or kind
    return [] if type(value) is expected else [f"{where}: {value!r} is no {expected.__name__}"]


def _collect(kind: Any, found: list[type]) -> None:  # noqa: ANN401 - any annotation
    if is_typeddict(kind) and kind not in found:
        found.append(kind)
        for _, bare, _ in fields(kind):
            _collect(bare, found)
    for inner in get_args(kind):
        _collect(inner, found)


def _spell(kind: Any) -> str:  # noqa: ANN401 - any annotation
    if is_typeddict(kind):
        anchor = title(kind).replace(" ", "-")
        return f"[{title(kind)}](#{anchor})"
    if get_origin(kind) is types.UnionType:
        return " or ".join(_spell(each) for each in get_args(kind))
    if get_origin(kind) is list:
        return f"list of {_spell(get_args(kind)[0])}"
    if get_origin(kind) is dict:
        return "object" if get_args(kind)[1] is object else f"object of {_spell(get_args(kind)[1])}"
    names = {str: "string", int: "integer", bool: "boolean", type(None): "null"}
    return names[kind]
