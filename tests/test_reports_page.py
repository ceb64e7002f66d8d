"""The page of a run: everything of the store is in it, nothing of it is ever markup, and it works in a browser."""

import base64
import os
import re
import subprocess
import sys

import browser
import numpy as np
import pytest
import warm
from page_runs import Elements, contents, unpacked, write_run, write_videos
from PIL import Image

from sharpv.paths import REPOSITORY
from sharpv.reports.page.build import figure_files, write_page
from sharpv.reports.page.data import FAILED, MISSING, QUESTIONS_A_BLOCK, RIGHT, WRONG
from sharpv.reports.store import load_run

EVIL = "</script><img src=x onerror=\"document.title='pwned'\"><!-- & {{ 7 * 7 }}"
QUESTIONS, ROWS = 70, 4


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A page of 70 questions and 4 rows with a failed, an evil and a merging answer; of 35 videos one is missing."""
    folder = tmp_path_factory.mktemp("page")
    kept = np.zeros((8, 6, 6), bool)
    kept[:, :3] = True
    merged = {"kept_bits": base64.b64encode(np.packbits(kept).tobytes()).decode(), "kept_per_frame": [20.5] * 8}
    changes = {
        (0, 0): {"raw": "green", "parsed": "B", "gold": "B", "score": 1.0},
        (0, 1): {"raw": EVIL, "parsed": EVIL, "score": 0.0} | merged,
        (0, 2): {"raw": "red", "parsed": "A", "score": 0.0},
        (0, 3): {"raw": "green", "parsed": "B", "score": 1.0},
        (2, 1): {"status": "error", "error": "ValueError: no answer"},
    }
    write_run(folder / "run", QUESTIONS, ROWS, changes=changes)
    write_videos(folder / "videos", 34)
    (folder / "figures").mkdir()
    (folder / "figures" / "pareto.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg"/>', encoding="utf-8")
    write_page([folder / "run"], folder / "page.html", folder / "videos", folder / "figures")
    return folder


@pytest.fixture(scope="module")
def page(made):
    return Elements((made / "page.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def index(page):
    return contents(page.data)


def test_every_answer_is_in_the_page_as_the_store_has_it(made, index):
    answers = load_run(made / "run").answers().set_index(["row", "doc_id"])
    assert len(index["doc"]) == QUESTIONS
    assert [line["row"] for line in index["lines"]] == [entry["row"] for entry in index["table"]]
    texts, found = index["texts"], 0
    for number, line in enumerate(index["lines"]):
        stored = {name: index[name][number] for name in ("verdicts", "said", "parsed", "vr")}
        for place, doc in enumerate(index["doc"]):
            answer = answers.loc[line["row"], doc]
            if answer["failed"]:
                assert stored["verdicts"][place] == FAILED
                assert texts[stored["said"][place]] == answer["error"]
                continue
            assert stored["verdicts"][place] == (RIGHT if answer["score"] == 1 else WRONG)
            assert texts[stored["said"][place]] == answer["raw"]
            assert stored["parsed"][place] == answer["parsed"]
            assert stored["vr"][place] == pytest.approx(answer["vr"], abs=1e-4)
            assert texts[index["prompt"][place]] == answer["prompt"]
            assert index["videos"][index["video"][place]] == answer["video"]
            found += 1
    assert found == QUESTIONS * ROWS - 1


def test_masks_lie_in_blocks_as_the_store_packs_them(made, page, index):
    answers = load_run(made / "run").answers().set_index(["row", "doc_id"])
    assert sum(name.startswith("kept-") for name in page.data) == -(-QUESTIONS // QUESTIONS_A_BLOCK)
    for number, line in enumerate(index["lines"]):
        for place, doc in enumerate(index["doc"]):
            block = unpacked(page.data[f"kept-{place // QUESTIONS_A_BLOCK}"])
            answer = answers.loc[line["row"], doc]
            bits = block["bits"][number][place % QUESTIONS_A_BLOCK]
            shares = block["shares"][number][place % QUESTIONS_A_BLOCK]
            assert bits is None if answer["failed"] else bits == answer["kept_bits"]
            assert shares == ([20.5] * 8 if (line["row"], doc) == ("row_1", 0) else None)


def test_frames_are_stored_once_a_video_and_a_missing_one_says_so(page, index):
    pictures = {name for name in page.data if name.startswith("video-")}
    reasons = dict(zip(index["videos"], index["reasons"], strict=True))
    assert len(pictures) == 34
    assert "v34.mp4 is not there" in reasons["v34.mp4"]
    assert not any(reason for video, reason in reasons.items() if video != "v34.mp4")
    assert base64.b64decode(page.data[min(pictures)])[8:12] == b"WEBP"


def test_a_name_that_two_files_have_and_a_broken_file_give_reasons(tmp_path):
    write_run(tmp_path / "run", 4, 2)
    write_videos(tmp_path / "videos", 1)
    write_videos(tmp_path / "videos" / "again", 1)
    (tmp_path / "videos" / "v1.mp4").write_bytes(b"no video")
    write_page([tmp_path / "run"], tmp_path / "page.html", tmp_path / "videos", tmp_path)
    reasons = unpacked(Elements((tmp_path / "page.html").read_text(encoding="utf-8")).data["index"])["reasons"]
    assert "2 files are called v0.mp4" in reasons[0]
    assert "cannot be read" in reasons[1]


def test_answers_that_a_row_lacks_and_questions_without_any_answer_are_told_apart(tmp_path):
    failed = {"status": "error", "error": "RuntimeError: out of memory"}
    write_run(tmp_path / "run", 5, 2, changes={(3, 0): failed, (3, 1): failed})
    lines = (tmp_path / "run" / "samples.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "run" / "samples.jsonl").write_text("".join(lines[:-1]), encoding="utf-8")
    scores = (tmp_path / "run" / "scores.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "run" / "scores.jsonl").write_text("".join(scores[:-1]), encoding="utf-8")
    write_page([tmp_path / "run"], tmp_path / "page.html", tmp_path, tmp_path)
    index = unpacked(Elements((tmp_path / "page.html").read_text(encoding="utf-8")).data["index"])
    assert [line[3] for line in index["verdicts"]] == [str(FAILED)] * 2
    assert index["verdicts"][1][4] == str(MISSING)
    assert index["shapes"][index["shape"][3]] is None
    assert any("were not run" in warning for warning in index["warnings"])


def test_nothing_of_the_run_is_markup_and_nothing_is_fetched(made, page, index):
    text = (made / "page.html").read_text(encoding="utf-8")
    assert EVIL in index["texts"]
    assert "pwned" not in text
    assert not [tag for tag, _ in page.tags if tag in ("img", "link", "iframe", "object", "base")]
    assert not [attributes for _, attributes in page.tags if {"src", "href"} & set(attributes)]
    policy = next(attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'; img-src data:")
    assert "tiny &lt;model&gt;" in text
    assert all(re.fullmatch(r"[A-Za-z0-9+/=]+", content) for content in page.data.values())


def test_the_same_store_gives_the_same_bytes(made, tmp_path):
    write_page([made / "run"], tmp_path / "again.html", made / "videos", made / "figures")
    assert (tmp_path / "again.html").read_bytes() == (made / "page.html").read_bytes()


def test_answers_that_disagree_about_the_grid_are_refused(tmp_path):
    write_run(tmp_path / "run", 4, 2, changes={(1, 1): {"grid": [4, 9]}})
    with pytest.raises(ValueError, match=r"shape \(8, 6, 6\) and \(8, 4, 9\)"):
        write_page([tmp_path / "run"], tmp_path / "page.html", tmp_path, tmp_path)


def test_a_figure_as_svg_goes_before_its_png(tmp_path):
    for name in ("b.png", "a.svg", "b.svg", "c.png", "notes.txt"):
        (tmp_path / name).touch()
    assert [path.name for path in figure_files(tmp_path)] == ["a.svg", "b.svg", "c.png"]
    assert figure_files(tmp_path / "none") == []


def test_the_command_needs_no_torch(made, tmp_path):
    arguments = [str(made / "run"), "--output", str(tmp_path / "p.html"), "--videos", str(made / "videos")]
    code = (
        "import runpy, sys\n"
        f"sys.argv = ['page', *{arguments}]\n"
        "runpy.run_module('sharpv.reports.page.build', run_name='__main__')\n"
        "assert not {'torch', 'transformers', 'lmms_eval'} & set(sys.modules)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert "p.html" in answer.stdout


@pytest.mark.parametrize("script", ["bench_page", "page_picture"])
def test_without_chromium_a_script_says_what_to_install(script, tmp_path):
    answer = run_script(script, tmp_path, PATH=str(tmp_path))
    assert answer.returncode == 1
    assert answer.stderr.startswith("error: no Chromium on this machine: install chromium")
    assert list(tmp_path.iterdir()) == []


def run_script(name, results, *arguments, **environment):
    environment = os.environ | {"SHARPV_RESULTS": str(results)} | environment
    command = [*warm.python(environment, REPOSITORY), f"scripts/{name}.py", *map(str, arguments)]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)


def test_what_a_memory_method_keeps_is_told_by_layer(tmp_path):
    held = {name: [] for name in ("visual_rows", "cosine_visual", "cosine_system", "cosine_instruction")}
    whole = {"layers": held | {"visual_kv": [288, 288]}, "visual_kept": 288}
    cut = {"layers": held | {"visual_kv": [288, 72]}, "visual_kept": 288}
    write_run(tmp_path / "run", 2, 2, changes={(0, 0): whole, (0, 1): cut})
    write_page([tmp_path / "run"], tmp_path / "page.html", tmp_path, tmp_path)
    block = unpacked(Elements((tmp_path / "page.html").read_text(encoding="utf-8")).data["kept-0"])
    assert block["held"] == [[None, None], [[1.0, 0.25], None]]


needs_browser = pytest.mark.skipif(browser.EXECUTABLE is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def tab(made):
    with browser.chromium() as opened:
        opened.size(1400, 900)
        opened.open(made / "page.html")
        yield opened


def listed(tab, address):
    """Questions listed for an address, once the page has followed it."""
    tab.run(
        f"""new Promise((resolve) => {{
            addEventListener("hashchange", () => resolve(texts()), {{ once: true }});
            location.replace("#tab=samples&{address}");
        }})"""
    )
    return tab.run("listed")


def details(tab, question):
    tab.run(f"go({{ ...DEFAULTS, tab: 'samples', question: '{question}' }})")
    tab.wait(f"document.getElementById('detail').dataset.question === '{question}'")


@needs_browser
@pytest.mark.slow
def test_filters_list_what_the_store_says(tab, index):
    verdicts = {line["row"]: told for line, told in zip(index["lines"], index["verdicts"], strict=True)}
    wrong, dense = (WRONG, FAILED), verdicts["row_0"]
    number = [line["row"] for line in index["lines"]].index("row_2")
    lost = [q for q in range(QUESTIONS) if dense[q] == RIGHT and verdicts["row_2"][q] in wrong]
    assert 0 < len(lost) < QUESTIONS
    assert listed(tab, f"line={number}&outcome=lost") == lost
    others = [verdicts[row] for row in ("row_1", "row_2", "row_3")]
    any_lost = [q for q in range(QUESTIONS) if dense[q] == RIGHT and any(row[q] in wrong for row in others)]
    assert listed(tab, "outcome=lost") == any_lost
    assert listed(tab, "benchmark=tiny_nextqa") == [q for q in range(QUESTIONS) if q % 4 == 2]
    assert listed(tab, "text=question+17%3A") == [17]
    assert listed(tab, "text=ONERROR") == [0]
    assert listed(tab, "outcome=failed") == [2]
    assert tab.run("document.getElementById('count').textContent") == f"1 of {QUESTIONS} questions"


@needs_browser
@pytest.mark.slow
def test_any_row_may_be_the_one_that_another_is_compared_with(tab, index):
    verdicts = {line["row"]: told for line, told in zip(index["lines"], index["verdicts"], strict=True)}
    first, second = ([line["row"] for line in index["lines"]].index(row) for row in ("row_1", "row_2"))
    lost = [q for q in range(QUESTIONS) if verdicts["row_2"][q] == RIGHT and verdicts["row_1"][q] in (WRONG, FAILED)]
    assert 0 < len(lost) < QUESTIONS
    assert listed(tab, f"line={first}&reference={second}&outcome=lost") == lost


@needs_browser
@pytest.mark.slow
@pytest.mark.parametrize(
    "address",
    [
        "line=length",
        "line=99",
        "outcome=constructor",
        "order=toString",
        "tab=constructor",
        "reference=map",
        "__proto__=x",
    ],
)
def test_an_address_that_means_nothing_lists_everything(tab, address):
    assert listed(tab, address) == list(range(QUESTIONS))
    assert tab.errors == []


@needs_browser
@pytest.mark.slow
def test_questions_keep_their_room_beside_many_rows(tmp_path):
    write_run(tmp_path / "run", 8, 24)
    write_page([tmp_path / "run"], tmp_path / "page.html", tmp_path, tmp_path)
    with browser.chromium() as opened:
        opened.size(1380, 800)
        opened.open(tmp_path / "page.html")
        opened.run("go({ ...DEFAULTS, tab: 'samples' })")
        opened.wait("document.querySelector('#list .row .head')")
        assert opened.run("document.querySelector('#list .row .head').clientWidth") > 150
        assert opened.errors == []


@needs_browser
@pytest.mark.slow
def test_only_the_rows_in_view_are_in_the_document(tab):
    listed(tab, "order=stored")
    assert 10 < tab.run("document.querySelectorAll('#list .row').length") < 60
    tab.run("document.getElementById('list').scrollTop = 1e6")
    tab.wait("document.querySelector('#question-69')")


@needs_browser
@pytest.mark.slow
def test_untrusted_text_is_shown_as_text_and_nothing_left_the_file(tab):
    details(tab, 0)
    said = tab.run("[...document.querySelectorAll('.said')].map((one) => one.textContent)")
    assert EVIL in said
    assert tab.run("document.title") == "tiny <model> · sharpv report"
    assert tab.run("document.querySelectorAll('img').length") == 0
    assert tab.run("document.querySelector('li.gold').textContent") == "B  green right"
    assert not [address for address in tab.requests if not address.startswith(("file:", "data:"))]
    assert len([address for address in tab.requests if address.startswith("file:")]) == 1
    assert tab.errors == []


def pixel(tab, line, x, y):
    """Red, green, blue at (x, y) of the first frame of a line's strip, both as shares of the frame."""
    name = f"Method {line}"
    return tab.run(
        f"""(() => {{
            const box = [...document.querySelectorAll('.line')].find((one) => one.textContent.includes('{name}'));
            const canvas = box.querySelector('canvas'), tile = canvas.width / 8 - 2;
            return [...canvas.getContext('2d').getImageData({x} * tile, {y} * tile, 1, 1).data].slice(0, 3);
        }})()"""
    )


@needs_browser
@pytest.mark.slow
def test_kept_patches_are_bright_and_dropped_ones_dark_and_grey(tab):
    details(tab, 0)
    kept, dropped = pixel(tab, 1, 0.25, 0.25), pixel(tab, 1, 0.25, 0.75)
    assert np.allclose(kept, (250, 120, 40), atol=25)
    assert max(dropped) < 60
    assert max(dropped) - min(dropped) < 4
    assert "merged tokens" in tab.run("document.getElementById('detail').textContent")
    label = "[...document.querySelectorAll('canvas')].map((one) => one.getAttribute('aria-label'))"
    assert "kept per frame: 57%, 57%, 57%, 57%, 57%, 57%, 57%, 57%" in tab.run(label)


@needs_browser
@pytest.mark.slow
def test_a_video_without_pictures_says_so_and_shows_the_masks_alone(tab):
    details(tab, 68)
    assert "No pictures: v34.mp4 is not there" in tab.run("document.getElementById('detail').textContent")
    assert tab.run("document.querySelectorAll('#detail canvas').length") == ROWS - 1


@needs_browser
@pytest.mark.slow
def test_the_table_sorts_both_ways_and_filters(tab, index):
    tab.run("go({ ...DEFAULTS })")
    tab.wait("document.getElementById('table') && !document.getElementById('results').hidden")
    names = "[...document.querySelectorAll('#table tbody tr:not(.group) th')].map((one) => one.textContent)"
    head = "[...document.querySelectorAll('#table thead button')].find((one) => one.textContent === 'VR %')"
    ratio = {entry["method"]: entry["vr_pct"] for entry in index["table"]}
    tab.run(f"{head}.click()")
    assert tab.run(names) == sorted(ratio, key=ratio.get)
    tab.run(f"{head}.click()")
    assert tab.run(names) == sorted(ratio, key=ratio.get, reverse=True)
    label = "[...document.querySelectorAll('#results label')].find((one) => one.textContent === ' Dense')"
    tab.run(f"{label}.firstChild.click()")
    assert tab.run(names) == [name for name in sorted(ratio, key=ratio.get, reverse=True) if name != "Method 0"]


@needs_browser
@pytest.mark.slow
def test_figures_are_shown_from_the_page_itself(tab):
    tab.run("go({ ...DEFAULTS, tab: 'figures' })")
    tab.wait("document.querySelector('figure img') && document.querySelector('figure img').src")
    assert tab.run("document.querySelector('figure img').src").startswith("data:image/svg+xml;base64,")
    tab.run("go({ ...DEFAULTS, tab: 'samples' })")


@needs_browser
@pytest.mark.slow
def test_the_timings_name_what_was_measured_and_with_which_browser(tmp_path):
    answer = run_script("bench_page", tmp_path, "--pages", "10x10", "--repeats", 2)
    assert answer.returncode == 0, answer.stderr
    (written,) = (tmp_path / "bench").glob("page_*.md")
    lines = {
        line.split("|")[1].strip(): line
        for line in written.read_text(encoding="utf-8").splitlines()
        if line.startswith("| ")
    }
    assert re.findall(r"[\d,]+", lines["answers"]) == ["100"]
    for step in ("opening", "first click on Samples", "filter", "another sample", "search"):
        (timed,) = [line for name, line in lines.items() if name.startswith(step)]
        assert re.search(r"\d\.\d\d \(\d\.\d\d to \d\.\d\d\)", timed)
    assert re.search(r"chromium \d+\.", written.read_text(encoding="utf-8"))


@needs_browser
@pytest.mark.slow
def test_the_picture_shows_table_and_sample(made, tmp_path):
    answer = run_script("page_picture", tmp_path, made / "page.html")
    assert answer.returncode == 0, answer.stderr
    picture = Image.open(tmp_path / "figures" / "page.png").convert("RGB")
    assert picture.width == 1380
    table, sample = picture.crop((0, 0, 1380, 662)), picture.crop((0, 674, 1380, picture.height))
    frames = np.abs(np.asarray(sample, int) - (250, 120, 40)).max(-1) < 45
    assert frames.mean() > 0.01
    # A pixel at the edge of a letter may come near.
    assert (np.abs(np.asarray(table, int) - (250, 120, 40)).max(-1) < 45).mean() < 0.001
