"""Replay the authors' recorded output through our methods: python scripts/replay_golden.py shared/golden [FILE ...]

Prints a line a file: indices compared (all equal) and the largest float difference. Files are told apart by their
folder, or else the repository in their metadata, and by what they hold, not by their names. Those that
are no output of the authors' method are declined, with the reason. Exit code: 0, or 1 where a file mismatched, could
not be read, or is one that nothing replays.
"""

import sys
from collections.abc import Iterator
from pathlib import Path

if not __debug__:
    sys.exit("files are compared by assertions: run without -O")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from golden_cases import llava_onevision, llava_video, memory, pllava, qwen_vl, visual_a, visual_b, visual_c
from golden_cases.recorded import Declined, Result, folder_of

NOT_RECORDED = ("README.md", "tokenizer.json.gz")
METHODS = (visual_a, visual_b, visual_c, memory)
MODELS = (llava_onevision, llava_video, pllava, qwen_vl)
CASES = [group.CASES for group in (*METHODS, *MODELS)]


def files_of(argument: str) -> Iterator[Path]:
    """The recorded files under a folder, explanations left out; or the file itself."""
    path = Path(argument).absolute()
    if not path.is_dir():
        yield path
        return
    yield from sorted(p for p in path.rglob("*") if p.is_file() and p.name not in NOT_RECORDED)


def replay(path: Path) -> tuple[str, str]:
    """`ok`, `declined` or `FAILED`, and what there is to say."""
    try:
        compared, difference = replayed(path)
    except Declined as reason:
        return "declined", str(reason)
    # Whatever one file does, the others are still replayed and the exit code tells.
    except Exception as error:
        return "FAILED", f"{type(error).__name__}: {error}"
    return "ok" if compared else "FAILED", f"{compared} indices, largest float difference {difference:.1e}"


def replayed(path: Path) -> Result:
    """What the rules of the file's folder find; a rule that raises a bare LookupError leaves the file to the next.

    LookupError where none takes it.
    """
    folder = folder_of(path, {name for group in CASES for name in group})
    cases = [group[folder] for group in CASES if folder in group]
    if not cases:
        raise LookupError(f"no method records into a folder {folder!r}, and no metadata names a method's repository")
    reasons = []
    for case in cases:
        try:
            return case(path)
        except LookupError as reason:
            if type(reason) is not LookupError:
                raise
            reasons.append(str(reason))
    raise LookupError(f"nothing replays this file: {' | '.join(reasons)}")


def main(arguments: list[str]) -> int:
    counts = {"ok": 0, "declined": 0, "FAILED": 0}
    for path in [path for argument in arguments for path in files_of(argument)]:
        verdict, message = replay(path)
        counts[verdict] += 1
        print(f"{verdict:8s} {path.parent.name}/{path.name}: {message}", flush=True)
    print(", ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return int(counts["FAILED"] > 0 or not any(counts.values()))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1:]))
