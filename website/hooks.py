"""What mkdocs does for this site beside its own work: pages that are made, links that leave docs, and formulas."""

from pathlib import Path
from typing import Any

import formulas
import navigation
import outside
import reference
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page


def on_config(config: MkDocsConfig) -> None:
    """Let the fence ``math`` be a formula."""
    config.mdx_configs.setdefault("pymdownx.superfences", {})["custom_fences"] = [formulas.FENCE]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the pages of the reference and those of files that lie outside docs, and list all pages in the navigation."""
    for uri, content in {**reference.pages(), **outside.pages()}.items():
        files.append(File.generated(config, uri, content=content))
    index = Path(config.docs_dir, "index.md").read_text()
    config.nav = navigation.listed(config.nav, [file.src_uri for file in files.documentation_pages()], index)


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Lead the page's links to files outside docs to their pages on the site."""
    return outside.with_links_inside(markdown, page.file.src_uri)
