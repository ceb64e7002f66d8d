"""A page too large for one file: its parts lie beside it, only those looked at are loaded, filters see all answers."""

import re
import shutil

import browser
import pytest
from page_runs import Elements, contents, write_run, write_videos

from sharpv.reports.page import build
from sharpv.reports.page.build import write_page
from sharpv.reports.page.pictures import Sheet

QUESTIONS, ROWS = 70, 3
PART = re.compile(r'part\("([a-z0-9-]+)", "([A-Za-z0-9+/=]+)"\);\n')
needs_browser = pytest.mark.skipif(browser.EXECUTABLE is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The same run as a page in one file and as one in parts, below a folder whose name needs quoting."""
    folder = tmp_path_factory.mktemp("a page's #1 ä")
    write_run(folder / "run", QUESTIONS, ROWS, changes={(69, 2): {"raw": "the last word"}})
    write_videos(folder / "videos", 35)
    for name, in_one in (("one", QUESTIONS * ROWS), ("my page", QUESTIONS * ROWS - 1)):
        write_page([folder / "run"], folder / f"{name}.html", folder / "videos", folder, in_one=in_one)
    return folder


def parts_of(page):
    return sorted(page.parent.glob(f"{page.stem}_parts_*"))


def blocks_of(folder):
    """Id -> content of all parts of a folder, each of which is one call and nothing else."""
    found = {path.stem: PART.fullmatch(path.read_text(encoding="utf-8")) for path in folder.iterdir()}
    assert all(call[1] == name for name, call in found.items())
    return {name: call[2] for name, call in found.items()}


def test_parts_hold_what_a_page_in_one_file_holds(made):
    (folder,) = parts_of(made / "my page.html")
    whole, parted = (Elements((made / name).read_text(encoding="utf-8")).data for name in ("one.html", "my page.html"))
    assert list(parted) == ["index"]
    assert parts_of(made / "one.html") == []
    blocks = blocks_of(folder)
    assert blocks == {name: content for name, content in whole.items() if name != "index"}
    assert contents(parted | blocks) == contents(whole) | {"parts": folder.name}


def test_a_page_made_anew_leaves_no_parts_of_the_former_and_those_of_others_alone(made, tmp_path, monkeypatch):
    page, others = tmp_path / "page.html", tmp_path / "page_parts_of_mine"
    others.mkdir()
    write_page([made / "run"], page, tmp_path, tmp_path, in_one=0)
    (first,) = set(parts_of(page)) - {others}
    write_page([made / "run"], page, tmp_path, tmp_path, in_one=0)
    assert set(parts_of(page)) == {first, others}
    monkeypatch.setattr(build, "sheets", lambda *_: iter([("v0.mp4", Sheet(webp="AAAA"))]))
    write_page([made / "run"], page, tmp_path, tmp_path, in_one=0)
    (second,) = set(parts_of(page)) - {others}
    assert second != first
    write_page([made / "run"], page, tmp_path, tmp_path)
    assert set(tmp_path.iterdir()) == {page, others}


def test_what_is_stopped_while_parts_are_written_leaves_the_former_page_whole(made, tmp_path, monkeypatch):
    page = tmp_path / "page.html"
    write_page([made / "run"], page, tmp_path, tmp_path, in_one=0)
    before, (folder,) = page.read_bytes(), parts_of(page)

    def broken(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(build, "sheets", broken)
    with pytest.raises(KeyboardInterrupt):
        write_page([made / "run"], page, tmp_path, tmp_path, in_one=0)
    assert page.read_bytes() == before
    assert set(tmp_path.iterdir()) == {page, folder}


def shown(tab, question):
    tab.run(f"go({{ ...DEFAULTS, tab: 'samples', question: '{question}' }})")
    tab.wait(f"document.getElementById('detail')?.dataset.question === '{question}'")


@needs_browser
@pytest.mark.slow
def test_only_what_is_looked_at_is_loaded_and_filters_and_searches_see_everything(made):
    with browser.chromium() as tab:
        tab.size(1400, 900)
        tab.open(made / "my page.html")

        def scripts():
            return [address.rsplit("/", 1)[1] for address in tab.requests if address.endswith(".js")]

        assert scripts() == []
        shown(tab, 0)
        assert scripts() == ["texts.js", "kept-0.js", "video-0.js"]
        assert tab.run("document.querySelectorAll('#detail canvas').length") == ROWS
        shown(tab, 69)
        assert scripts()[3:] == ["kept-1.js", "video-34.js"]
        tab.run("go({ text: 'THE LAST WORD' })")
        tab.wait("listed.length === 1 && listed[0] === 69")
        tab.run("go({ text: '', outcome: 'lost' })")
        tab.wait("listed.length > 1")
        lost = "data.task.map((_, q) => q).filter((q) => [1, 2].some((line) => OUTCOMES.lost.test(line, q, 0)))"
        assert tab.run("listed") == tab.run(lost)
        assert tab.errors == []


@needs_browser
@pytest.mark.slow
def test_a_page_without_its_folder_shows_its_table_and_says_what_is_missing(made, tmp_path):
    shutil.copy(made / "my page.html", tmp_path / "alone.html")
    with browser.chromium() as tab:
        tab.open(tmp_path / "alone.html")
        assert tab.run("document.querySelectorAll('#table tbody tr').length") >= ROWS
        tab.run("go({ tab: 'samples' })")
        tab.wait("document.querySelector('#detail .warning')")
        assert "keep the folder my page_parts_" in tab.run("document.querySelector('#detail .warning').textContent")
