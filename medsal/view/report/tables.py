"""Tables of a report: maps, provenance, sanity figures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

SAID = 10  # numbers of a list that are written out
LONGEST = 500  # characters of a text; a mask is packed into many more


def table(head: Sequence[str], rows: Sequence[Sequence[str]], caption: str, name: str = "") -> str:
    """An HTML table whose first column names the row."""
    heads = "".join(f'<th scope="col">{escape(each)}</th>' for each in head)
    body = "\n".join(
        f'<tr><th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(each)}</td>" for each in row[1:])
        + "</tr>"
        for row in rows
    )
    kind = f' class="{name}"' if name else ""
    return (
        f'<div class="wide"><table{kind}>\n<caption>{escape(caption)}</caption>\n'
        f"<thead><tr>{heads}</tr></thead>\n<tbody>\n{body}\n</tbody>\n</table></div>"
    )


def provenance_tables(sidecars: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """What all maps have in common, once; then, for each map, what is its own."""
    flat = [dict(flatten(each)) for each in sidecars]
    keys = list(dict.fromkeys(key for each in flat for key in each))
    common = [key for key in keys if len({each.get(key, "") for each in flat}) == 1]
    said = "Of all maps" if len(flat) > 1 else "Of the map"
    parts = [table(("what", "value"), [(key, flat[0][key]) for key in common], said)]
    own = [key for key in keys if key not in common]
    for each, name in zip(flat, names, strict=True) if own else ():
        rows = [(key, each[key]) for key in own if key in each]
        parts.append(table(("what", "value"), rows, f"Of {name}"))
    return "\n".join(parts)


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Nested JSON as rows: a dotted name, and a text."""
    if isinstance(value, Mapping) and value:
        for key, each in value.items():
            yield from flatten(each, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
        for k, each in enumerate(value):
            yield from flatten(each, f"{name}.{k}" if len(value) > 1 else name)
    else:
        yield name, _text(value)


def _text(value: Any) -> str:
    if value is None or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, list | tuple):
        if any(isinstance(each, list | tuple) for each in value):
            return "; ".join(_text(each) for each in value)
        rest = f", and {len(value) - SAID} more" if len(value) > SAID else ""
        return ", ".join(_text(each) for each in value[:SAID]) + rest if value else "none"
    text = str(value)
    return text if len(text) <= LONGEST else f"{text[:60]}... ({len(text)} characters)"
