"""Archives of videos: unpacked whole and right, or refused with their name and nothing left behind."""

import gzip
import io
import re
import shutil
import tarfile
import zipfile
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import pytest
from omegaconf import OmegaConf

from sharpv.benchmarks import archives as module
from sharpv.benchmarks.archives import archives, unpack_archive
from sharpv.benchmarks.availability import videos
from sharpv.commands.unpack import unpack

FILES = {f"data/{number}.mp4": bytes([number]) * (3000 + 700 * number) for number in range(20)}


def tar_bytes(files=FILES):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def zip_bytes(files=FILES):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


def split(content, count):
    size = -(-len(content) // count)
    return [content[start : start + size] for start in range(0, len(content), size)]


@pytest.fixture
def snapshot(tmp_path):
    (tmp_path / "snapshot").mkdir()
    return tmp_path / "snapshot"


def unpacked(snapshot, target):
    return sum(unpack_archive(archive, target) for archive in archives(snapshot))


def found(target):
    return {path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "name", ["x.tar.{:02d}", "x.tar.{}", "x_{}.tar", "x.tar.part{}", "x.tar.part-{:03d}", "x.zip.{:03d}", "x.tar.gz.{}"]
)
@pytest.mark.parametrize("count", [3, 12])
def test_parts_are_joined_by_their_numbers(snapshot, tmp_path, name, count):
    content = zip_bytes() if ".zip" in name else gzip.compress(tar_bytes()) if ".gz" in name else tar_bytes()
    for number, part in enumerate(split(content, count)):
        (snapshot / name.format(number)).write_bytes(part)
    assert unpacked(snapshot, tmp_path / "videos") == len(FILES)
    assert found(tmp_path / "videos") == FILES
    assert unpacked(snapshot, tmp_path / "videos") == 0


@pytest.mark.parametrize("name", ["x.tar.{}", "x.tar.part.{}", "x.tar.part-{}"])
def test_parts_with_letters_are_joined_by_them(snapshot, tmp_path, name):
    for letters, part in zip(("aa", "ab", "ac"), split(tar_bytes(), 3), strict=True):
        (snapshot / name.format(letters)).write_bytes(part)
    unpacked(snapshot, tmp_path / "videos")
    assert found(tmp_path / "videos") == FILES


@pytest.mark.parametrize("name", ["x.tar.{:02d}", "x_{}.tar"])
@pytest.mark.parametrize("missing", [0, 1, 3])
def test_a_missing_part_is_an_error_and_leaves_nothing(snapshot, tmp_path, name, missing):
    for number, part in enumerate(split(tar_bytes(), 4)):
        if number != missing:
            (snapshot / name.format(number)).write_bytes(part)
    with pytest.raises(ValueError, match="cannot be unpacked"):
        unpacked(snapshot, tmp_path / "videos")
    assert found(tmp_path / "videos") == {}
    assert not list(tmp_path.glob(".*"))


def test_a_missing_middle_part_is_named(snapshot, tmp_path):
    for ending in ("aa", "ac"):
        (snapshot / f"x.tar.{ending}").write_bytes(tar_bytes())
    with pytest.raises(ValueError, match=r"x.tar.aa \(and 1 more parts\).*number 1 is missing; run hf download again"):
        unpacked(snapshot, tmp_path / "videos")


def test_whole_archives_with_numbers_are_all_unpacked(snapshot, tmp_path):
    names = list(FILES)
    for year, part in ((2013, names[:7]), (2014, names[7:12])):
        (snapshot / f"clips_{year}.tar").write_bytes(tar_bytes({name: FILES[name] for name in part}))
    for number, part in ((1, names[12:15]), (2, names[15:])):
        (snapshot / f"more_{number}.tar").write_bytes(tar_bytes({name: FILES[name] for name in part}))
    unpacked(snapshot, tmp_path / "videos")
    assert found(tmp_path / "videos") == FILES


def truncated(content):
    return content[: len(content) // 2]


def flipped(content):
    """One byte of the first member's data is another."""
    place = content.index(b"data/0.mp4") + len(b"data/0.mp4") + 12
    return content[:place] + bytes([content[place] ^ 255]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("x.zip", truncated(zip_bytes()), "not a zip file"),
        ("x.zip", flipped(zip_bytes()), "."),
        ("x.zip", b"", "not a zip file"),
        ("x.tar", b"", "."),
        ("x.tar", truncated(tar_bytes()), "."),
        ("x.tar", tar_bytes()[: -10240 + 512], "."),
        ("x.tar.gz", truncated(gzip.compress(tar_bytes())), "."),
        ("x.tar", b"\1" * 20000, "."),
        ("x.zip", b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n", "git-lfs pointer"),
        ("x.tar", b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 9\n", "git-lfs pointer"),
        ("x.zip", b"<!DOCTYPE html><html>please log in</html>", "web page"),
        ("x.zip", zip_bytes({"a": b"1", "a/b": b"2"}), "both a file and a folder"),
        ("x.zip", zip_bytes({"a" * 300 + ".mp4": b"1"}), "name too long"),
    ],
)
def test_what_is_damaged_is_named_and_leaves_nothing(snapshot, tmp_path, name, content, told):
    (snapshot / name).write_bytes(content)
    with pytest.raises(ValueError, match=rf"{name} cannot be unpacked: (?i:.*{told})"):
        unpacked(snapshot, tmp_path / "videos")
    assert found(tmp_path / "videos") == {}
    assert not list(tmp_path.glob(".*"))


def test_an_encrypted_zip_is_refused(snapshot, tmp_path):
    content = bytearray(zip_bytes({"a.mp4": b"1" * 100}))
    content[6] |= 1
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (snapshot / "x.zip").write_bytes(content)
    with pytest.raises(ValueError, match=r"x.zip cannot be unpacked: a.mp4 is encrypted"):
        unpacked(snapshot, tmp_path / "videos")


@pytest.mark.parametrize("name", ["x.zip", "x.tar"])
def test_too_little_disk_is_told_before_anything_is_written(snapshot, tmp_path, monkeypatch, name):
    (snapshot / name).write_bytes(zip_bytes() if name == "x.zip" else tar_bytes())
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(module.shutil, "disk_usage", lambda _: usage(10**6, 0, 100_000))
    monkeypatch.setattr(module, "_write", lambda *_: pytest.fail("something was written"))
    with pytest.raises(ValueError, match=rf"{name} cannot be unpacked: it needs 0.00 GB more"):
        unpacked(snapshot, tmp_path / "videos")


def test_a_file_of_another_size_is_replaced_and_what_macos_adds_left_out(snapshot, tmp_path):
    target = tmp_path / "videos"
    (target / "data").mkdir(parents=True)
    (target / "data" / "1.mp4").write_bytes(b"half")
    (snapshot / "x.zip").write_bytes(zip_bytes(FILES | {"__MACOSX/data/._1.mp4": b"x", "data/._1.mp4": b"x"}))
    assert unpacked(snapshot, target) == len(FILES)
    assert found(target) == FILES


@pytest.mark.parametrize("name", ["../x.mp4", "/x.mp4"])
def test_a_member_that_leaves_the_folder_is_refused(snapshot, tmp_path, name):
    (snapshot / "x.tar").write_bytes(tar_bytes({"a.mp4": b"1", name: b"2"}))
    with pytest.raises(ValueError, match="would be written outside"):
        unpacked(snapshot, tmp_path / "videos")
    assert found(tmp_path / "videos") == {}


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def downloaded(home, repository, files, revision="main"):
    root = home / "hub" / f"datasets--{repository.replace('/', '--')}"
    folder = root / "snapshots" / ("a" * 40)
    (root / "refs").mkdir(parents=True)
    (root / "refs" / revision).write_text("a" * 40, encoding="utf-8")
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


MVBENCH = {"star/Charades_segment/a.mp4": b"1", "tvqa/frames/b/00001.jpg": b"2", "json/a.json": b"[]", "README.md": b""}


def test_videos_that_are_loose_in_the_snapshot_are_linked(home, capsys):
    downloaded(home, "OpenGVLab/MVBench", MVBENCH, "video")
    target = home / "mvbench_video"
    (target / "star" / "Charades_segment").mkdir(parents=True)
    (target / "star" / "Charades_segment" / "own.mp4").write_bytes(b"mine")
    config = OmegaConf.create({"models": [], "benchmarks": ["mvbench"], "model": {}})
    assert unpack(config, "") == 0
    assert (target / "star" / "Charades_segment" / "a.mp4").read_bytes() == b"1"
    assert (target / "star" / "Charades_segment" / "own.mp4").read_bytes() == b"mine"
    assert (target / "tvqa" / "frames" / "b" / "00001.jpg").read_bytes() == b"2"
    assert not (target / "json").exists()
    assert "0 files unpacked into" in capsys.readouterr().out
    assert unpack(config, "") == 0
    assert ", 0 links made" in capsys.readouterr().out


def test_links_follow_a_new_snapshot(home):
    folder = downloaded(home, "OpenGVLab/MVBench", MVBENCH, "video")
    config = OmegaConf.create({"models": [], "benchmarks": ["mvbench"], "model": {}})
    unpack(config, "")
    newer = folder.with_name("b" * 40)
    shutil.copytree(folder, newer)
    (newer / "star" / "Charades_segment" / "a.mp4").write_bytes(b"newer")
    (folder.parents[1] / "refs" / "video").write_text("b" * 40, encoding="utf-8")
    unpack(config, "")
    assert (home / "mvbench_video" / "star" / "Charades_segment" / "a.mp4").read_bytes() == b"newer"


def test_a_task_that_says_itself_where_its_videos_lie_has_nothing_unpacked(home):
    any_task = OmegaConf.create(
        {"name": "any_mlvu_dev", "task": "mlvu_dev", "data": "task", "columns": {"any": "mlvu_dev"}}
    )
    config = OmegaConf.create({"models": [], "benchmarks": [], "benchmark": any_task, "model": {}})
    with pytest.raises(ValueError, match="its task's own functions say where"):
        unpack(config, "")
    sample = SimpleNamespace(video=home / "gone.mp4", problem=None)
    told = videos(any_task, [sample]).problem
    assert "put them there, where its task looks" in told
    assert "unpack" not in told


def test_one_benchmark_and_one_archive_that_fail_do_not_keep_the_others(home):
    downloaded(home, "lmms-eval/Video-MME", {"videomme/a.parquet": b"no archive"})
    files = {"a.zip": truncated(zip_bytes()), "b.zip": zip_bytes({"NExTVideo/1.mp4": b"1"})}
    downloaded(home, "lmms-eval/NExTQA", files)
    downloaded(home, "lmms-eval/ActivityNetQA", {"all_test.zip": zip_bytes({"all_test/v_1.mp4": b"2"})})
    names = ["mvbench", "videomme", "nextqa", "actnetqa"]
    with pytest.raises(ValueError, match="cannot be unpacked") as error:
        unpack(OmegaConf.create({"models": [], "benchmarks": names, "model": {}}), "")
    lines = str(error.value).splitlines()
    assert [re.match(r"\w+", line)[0] for line in lines] == ["mvbench", "videomme", "nextqa"]
    assert "a.zip cannot be unpacked" in lines[2]
    assert (home / "nextqa" / "NExTVideo" / "1.mp4").read_bytes() == b"1"
    assert (home / "activitynetqa" / "all_test" / "v_1.mp4").read_bytes() == b"2"
    assert not [path for path in Path(home).rglob("*") if "partial" in path.name or "unpacking" in path.name]
