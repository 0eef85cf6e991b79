"""The tables of docs/configuration.md, from the typed classes."""

from __future__ import annotations

from dataclasses import MISSING, fields

from modeldrop.config import SECTIONS


def tables() -> None:
    """Print each section's settings as a table; for cog."""
    for name, section in SECTIONS.items():
        print(f"\n## `[{name}]`\n\n| setting | default | meaning |\n|---|---|---|")
        for each in fields(section):
            default = "{}" if each.default is MISSING else _toml(each.default)
            print(f"| `{each.name}` | `{default}` | {each.metadata['doc']} |")


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
