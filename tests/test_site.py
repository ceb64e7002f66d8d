"""The documents as a site: built strictly, read without a network, no link to nowhere; and its notebook runs."""

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from PIL import Image

from sharpv.paths import REPOSITORY

NOTEBOOK = REPOSITORY / "docs" / "first_steps.ipynb"
LOADED = {"script": "src", "img": "src", "iframe": "src", "source": "src", "link": "href", "object": "data"}


class Page(HTMLParser):
    """What a page loads, what it links to, and the anchors that it has."""

    def __init__(self, path: Path):
        super().__init__()
        self.loads, self.links, self.anchors, self.classes = [], [], set(), set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.anchors.add(given.get("id") or given.get("name"))
        self.classes |= set((given.get("class") or "").split())
        if given.get(LOADED.get(tag)):
            self.loads.append(given[LOADED[tag]])
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_every_document_and_public_name_has_a_place(site, pages):
    documents = ["index.html", *(f"docs/{path.stem}.html" for path in REPOSITORY.glob("docs/*.*"))]
    assert {site / name for name in documents} <= set(pages)
    anchors = set().union(*(page.anchors for page in pages.values()))
    stages = re.findall(r"_target_: (sharpv\.pruners\S+)", "\n".join(map(Path.read_text, configurations())))
    assert len(stages) > 20
    assert {"sharpv.SharpV", "sharpv.pair.Pruner.of", "sharpv.export.vllm.video_prune", *stages} <= anchors


def configurations():
    return [path for group in ("visual", "memory") for path in (REPOSITORY / "configs" / group).glob("*.yaml")]


def test_nothing_is_loaded_from_a_network(site, pages):
    for path, page in pages.items():
        assert [place for place in page.loads if urlsplit(place).netloc] == [], path
        # For these the theme's script would fetch another.
        assert "mermaid" not in page.classes, path
    for path in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*[\"']?(https?:)?//", path.read_text(encoding="utf-8")), path


def test_every_relative_link_and_anchor_leads_somewhere(pages):
    for path, page in pages.items():
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path}: {link}"
            if parts.fragment and target in pages:
                assert unquote(parts.fragment) in pages[target].anchors, f"{path}: {link}"


def test_the_notebook_runs_and_holds_no_outputs(capsys):
    cells = [cell for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"] if cell["cell_type"] == "code"]
    names = {}
    for place, cell in enumerate(cells):
        assert not cell["outputs"]
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, code cell {place}", "exec"), names)
    shown = capsys.readouterr().out
    for part in ("red circle\nred circle\n", "visual tokens fed: VR", "fastv  "):
        assert part in shown
    assert len(re.findall(r"of \d+% of the visual tokens", shown)) == 2
    assert isinstance(names["strip"], Image.Image)
    assert 0 < names["report"].kv_held < 1
