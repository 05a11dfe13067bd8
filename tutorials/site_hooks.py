"""What mkdocs does on the way: tutorials become pages, the reference names every name."""

import importlib
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files


def page(source: str) -> str:
    """A tutorial of percent cells as Markdown."""
    parts = []
    for cell in source.split("# %%")[1:]:
        kind, _, body = cell.partition("\n")
        if "[markdown]" in kind:
            lines = [line.removeprefix("#").removeprefix(" ") for line in body.strip().splitlines()]
            parts.append("\n".join(lines))
        elif body.strip():
            parts.append(f"```python\n{body.strip()}\n```")
    return "\n\n".join(parts) + "\n"


def names(package: str) -> list[str]:
    """Where the public names of a package are defined, those of one module together."""
    module = importlib.import_module(package)
    found = [(name, getattr(module, name)) for name in module.__all__]
    homes = [
        f"{each.__module__}.{each.__qualname__}"
        if getattr(each, "__module__", "").startswith("medsal.") and hasattr(each, "__qualname__")
        else f"{package}.{name}"
        for name, each in found
    ]
    return sorted(homes, key=lambda home: home.rpartition(".")[0])


def formulas(markdown: str) -> str:
    """Formulas between dollars as MathML, which browsers draw without a script or the network."""

    def drawn(match: re.Match[str]) -> str:
        return convert((match[1] or match[2]).strip(), display="block" if match[1] else "inline")

    return re.sub(r"\$\$(.+?)\$\$|\$([^$]+)\$", drawn, markdown, flags=re.S)


def on_files(files: Files, config: Any) -> Files:
    """Put a page beside each tutorial."""
    for path in sorted(Path(config.docs_dir).glob("[0-9]*.py")):
        files.append(
            File.generated(config, f"{path.stem}.md", content=page(path.read_text("utf-8")))
        )
    return files


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Write `::: package.*` out, each name once; let links to a tutorial lead to its page."""
    seen: set[str] = set()

    def written(match: re.Match[str]) -> str:
        new = [name for name in names(match[1]) if name not in seen]
        seen.update(new)
        return "\n\n".join(f"::: {name}" for name in new)

    if "$$" in markdown:  # elsewhere a dollar is a shell's
        markdown = formulas(markdown)
    markdown = re.sub(r"^::: ([\w.]+)\.\*$", written, markdown, flags=re.M)
    return re.sub(r"\]\((\d\d_\w+)\.py\)", r"](\1.md)", markdown)
