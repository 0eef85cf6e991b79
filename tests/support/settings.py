"""The tables of docs/configuration.md, from the typed classes."""

from __future__ import annotations

from modeldrop.settings import SECTIONS, settings_of


def tables() -> None:
    """Print each section's settings as a table; for cog."""
    for name, section in SECTIONS.items():
        print(f"\n## `[{name}]`\n\n| setting | default | meaning |\n|---|---|---|")
        fresh = section()
        for key, each in settings_of(section).items():
            print(f"| `{key}` | `{_toml(getattr(fresh, key))}` | {each.doc} |")


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
