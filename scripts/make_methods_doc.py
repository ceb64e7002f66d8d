"""Write docs/methods.md from the methods' docstrings and fields and from the replay of the authors' recorded output.

python scripts/make_methods_doc.py             text only; counts come from results/golden.json, shares changed by
                                               rounding from results/rounding.json (scripts/measure_rounding.py)
python scripts/make_methods_doc.py --replay    replay tests/golden first and write results/golden.json anew
"""

import argparse
import dataclasses
import inspect
import json
import re
from pathlib import Path

from replay_golden import files_of, replay
from tqdm import tqdm

from sharpv.paths import REPOSITORY
from sharpv.pruners.base import MemoryPruner, VisualPruner
from sharpv.pruners.bipartite import BipartiteMerging
from sharpv.pruners.divprune import DivPrune
from sharpv.pruners.dycoke import DyCokeMerge
from sharpv.pruners.dycoke_cache import DyCokeCache
from sharpv.pruners.evs import EVS
from sharpv.pruners.fastv import FastV
from sharpv.pruners.fastvid import FastVID
from sharpv.pruners.flashvid import FlashVID
from sharpv.pruners.flashvid_inner import FlashVIDInner
from sharpv.pruners.framefusion import FrameFusion
from sharpv.pruners.holitom import HoliTom
from sharpv.pruners.holitom_inner import HoliTomInner
from sharpv.pruners.prumerge import PruMerge
from sharpv.pruners.prumerge_plus import PruMergePlus
from sharpv.pruners.prunevid import PruneVidMerge
from sharpv.pruners.prunevid_attention import PruneVidAttention
from sharpv.pruners.pyramiddrop import PyramidDrop
from sharpv.pruners.query_relevance import QueryRelevance
from sharpv.pruners.scissor import Scissor
from sharpv.pruners.sharpv import MemorySharpV, VisualSharpV
from sharpv.pruners.sharpv_budget import SharpVBudget
from sharpv.pruners.vcast import VCast
from sharpv.pruners.vidcom2 import VidCom2
from sharpv.pruners.visionzip import VisionZip
from sharpv.pruners.vtw import VTW

Method = type[VisualPruner] | type[MemoryPruner]
GOLDEN = REPOSITORY / "tests" / "golden"
RECORD = REPOSITORY / "results" / "golden.json"
ROUNDING = REPOSITORY / "results" / "rounding.json"
DOCUMENT = REPOSITORY / "docs" / "methods.md"
LABELS = ("Paper", "Official", "Promises", "Complexity", "Deviations")
REMARKS = {
    "dycoke/s1_f4_t16_k05_corr_RAISES": "no official output, that code crashes on 4 frames; recorded with it mended"
}
# Class and the golden files, as folder/stem, that prove it.
METHODS: dict[Method, str | None] = {
    VisualSharpV: None,
    MemorySharpV: None,
    PruMerge: r"prumerge/base_",
    PruMergePlus: r"prumerge/plus_",
    DyCokeMerge: r"dycoke/s1_",
    DyCokeCache: r"dycoke/s2_",
    DivPrune: r"divprune/",
    PruneVidMerge: r"prunevid/(stage1|dpc|refine)_",
    PruneVidAttention: r"prunevid/(stage2|e2e)_",
    FastV: r"fastv/",
    VTW: r"vtw/",
    FrameFusion: r"framefusion/",
    VidCom2: r"vidcom2/",
    EVS: r"evs/",
    VCast: r"vcast/",
    VisionZip: r"visionzip/",
    Scissor: r"scissor/",
    FastVID: r"fastvid/",
    PyramidDrop: r"pyramiddrop/",
    HoliTom: r"holitom/(?!inner_|e2e_)",
    HoliTomInner: r"holitom/(inner|e2e)_",
    FlashVID: r"flashvid/(?!inner_|e2e_)",
    FlashVIDInner: r"flashvid/(inner|e2e)_",
    BipartiteMerging: None,
    SharpVBudget: None,
    QueryRelevance: None,
}


def labelled(method: Method) -> dict[str, str]:
    """What stands behind each of LABELS in the docstring, up to the next label or the paragraph's end.

    A class that leaves a label out has its parent's. ValueError where no class gives it.
    """
    found: dict[str, str] = {}
    for owner in reversed(method.__mro__):
        for paragraph in inspect.cleandoc(owner.__doc__ or "").split("\n\n"):
            parts = re.split(rf"(?:^|(?<=\. ))({'|'.join(LABELS)}): ", " ".join(paragraph.split()))
            found |= dict(zip(parts[1::2], map(str.strip, parts[2::2]), strict=True))
    missing = [label for label in ("Paper", "Official", "Complexity", "Deviations") if label not in found]
    if missing:
        raise ValueError(f"the docstring of {method.__name__} has no {missing[0]}: ...")
    return found


def idea(method: Method) -> str:
    """The first paragraph of the docstring."""
    return " ".join(inspect.cleandoc(method.__doc__).split("\n\n")[0].split())


def stage(method: Method) -> str:
    return "visual" if issubclass(method, VisualPruner) else "memory"


def needs(method: Method) -> str:
    """What a method reads beside tokens or hidden states, from its declaration and its calls."""
    if issubclass(method, VisualPruner):
        read = method().tower_layers
        if method.reads_question:
            return "the question's embeddings"
        if read is None:
            return "nothing of the tower"
        layers = ", ".join(map(str, read))
        return f"tower queries and keys, layer {layers}" if layers else "the tower's states and pooling head"
    rows = re.search(r"(attention_rows|last_row_scores|scores_of_layer_before)\(", inspect.getsource(method))
    return "attention rows of single queries" if rows else "no attention"


def settings(method: Method) -> str:
    """Fields that a configuration sets, with their defaults."""
    fields = [field for field in dataclasses.fields(method) if field.init]
    return ", ".join(f"`{field.name}={field.default!r}`" for field in fields)


def golden(method: Method, record: dict[str, dict[str, str]]) -> list[tuple[str, str, str]]:
    """Name, verdict and message of the files that prove a method."""
    pattern = METHODS[method]
    names = [name for name in record if pattern is not None and re.match(pattern, name)]
    return [(name, record[name]["verdict"], record[name]["message"]) for name in names]


def passed(files: list[tuple[str, str, str]]) -> str:
    """`8 of 9`, declined files counted in the second number; a dash where the authors released nothing to record."""
    return f"{sum(verdict == 'ok' for _, verdict, _ in files)} of {len(files)}" if files else "-"


def golden_files() -> list[Path]:
    """The recorded files in the methods' folders; those of the model families lie beside them."""
    folders = {pattern.partition("/")[0] for pattern in METHODS.values() if pattern is not None}
    return [path for path in files_of(str(GOLDEN)) if path.parent.name in folders]


def replay_all() -> dict[str, dict[str, str]]:
    """Verdict and message of every file that proves a method, by folder/stem."""
    record = {}
    for path in tqdm(golden_files(), "replay", unit="file"):
        verdict, message = replay(path)
        record[f"{path.parent.name}/{path.stem}"] = {"verdict": verdict, "message": message}
    return record


def rounding_table(shares: dict[str, dict[str, float]]) -> list[str]:
    """What half precision changes, as lines of markdown."""
    kinds = list(next(iter(shares.values())))
    lines = [
        "",
        "## What half precision changes",
        "",
        "Scores are float32 whatever the model's dtype, so that a model in half precision changes a choice only",
        "through its rounded features and tower states. The table has the share of kept tokens that differ when",
        "these are rounded before `select`: tokens that only one of the two choices keeps, of all that they keep;",
        "of PruneVidMerge, Scissor and BipartiteMerging, whose rows are means, the tokens whose row stands for other",
        "tokens than before. Settings and video are those of `scripts/bench_pruners.py --small`, 8 x 196 x 896,",
        "on which every method runs; the still video is the same with a hundredth of its motion, so that",
        "frames nearly tie (SharpV keeps little but the first one of it). Both are made up and were",
        "measured on one CPU by `python scripts/measure_rounding.py`; real footage may differ.",
        "DivPrune's picks build on each other: here the",
        "fifth is a near-tie, and changes the later ones. PruneVidMerge finds no scenes in the still video, so",
        "that rounding decides where its segments end. Memory stages are not measured: they read the model's own",
        "states, which differ in a half-precision run anyway.",
        "",
        f"| visual stage | {' | '.join(kinds)} |",
        f"| --- |{' ---: |' * len(kinds)}",
    ]
    return lines + [f"| {name} | {' | '.join(f'{shares[name][kind]:.1%}' for kind in kinds)} |" for name in shares]


def document(record: dict[str, dict[str, str]], shares: dict[str, dict[str, float]]) -> str:
    """The text of docs/methods.md."""
    lines = [
        "# Methods",
        "",
        "Generated by `python scripts/make_methods_doc.py` from docstrings, fields and records in results/.",
        "A visual stage acts before the language model, a memory stage inside it; any of one composes with any of the",
        "other. A golden file holds what the authors' own code gave; it passed if our indices are equal and floats",
        "within tolerance. The second number counts all files of a method, declined ones included; `-` where no code",
        "was released. Symbols are explained at the top of each file.",
        "",
        "| method | stage | needs | golden files passed | file |",
        "| --- | --- | --- | ---: | --- |",
    ]
    for method in METHODS:
        file = Path(inspect.getfile(method)).relative_to(REPOSITORY)
        name = method.__name__
        count = passed(golden(method, record))
        cells = (f"[{name}](#{name.lower()})", stage(method), needs(method), count, f"[{file}](../{file})")
        lines.append(f"| {' | '.join(cells)} |")
    lines += rounding_table(shares)
    for method in METHODS:
        files, labels = golden(method, record), labelled(method)
        lines += ["", f"## {method.__name__}", "", idea(method), ""]
        lines += [f"- **{label}**: {labels[label]}" for label in LABELS if label in labels]
        lines += [f"- **Settings**: {settings(method)}", f"- **Golden files passed**: {passed(files)}"]
        lines += [f"    - {verdict}: {name} ({message})" for name, verdict, message in files if verdict != "ok"]
        lines += [f"    - {name}: {REMARKS[name]}" for name, _, _ in files if name in REMARKS]
    return "\n".join([*lines, ""])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--replay", action="store_true", help="replay tests/golden and write results/golden.json anew")
    if parser.parse_args().replay:
        RECORD.write_text(json.dumps(replay_all(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(
        document(json.loads(RECORD.read_text(encoding="utf-8")), json.loads(ROUNDING.read_text(encoding="utf-8"))),
        encoding="utf-8",
    )
    print(f"written to {DOCUMENT}")


if __name__ == "__main__":
    main()
