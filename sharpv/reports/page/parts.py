"""The parts of a large page: scripts in a folder beside it, for a page that is opened from disk may load nothing else.

A part's name is its block's, its content one call with the block as base64. The folder's name ends in a hash of all of
them, so that a page never shows parts of another one, whoever is killed or reads at whatever moment.
"""

import hashlib
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from tempfile import mkdtemp

from sharpv.files import told

HASH = re.compile("[0-9a-f]{12}")


def write_parts(page: Path, blocks: Iterable[tuple[str, str]]) -> Path:
    """Write blocks (id, base64) into a folder beside the page; the folder. ValueError where the disk refuses."""
    digest = hashlib.sha256()
    with told(page):
        page.parent.mkdir(parents=True, exist_ok=True)
        made = Path(mkdtemp(prefix=f"{page.stem}_", suffix=".partial", dir=page.parent))
    try:
        for name, content in blocks:
            text = f'part("{name}", "{content}");\n'
            digest.update(text.encode())
            with told(page):
                (made / f"{name}.js").write_text(text, encoding="utf-8")
        folder = page.with_name(f"{page.stem}_parts_{digest.hexdigest()[:12]}")
        with told(page):
            made.chmod(0o755)
            if not folder.is_dir():
                made.replace(folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def forget_others(page: Path, kept: Path | None) -> None:
    """Delete the folders of parts of what this page was before."""
    start = f"{page.stem}_parts_"
    for folder in page.parent.iterdir():
        if folder != kept and folder.name.startswith(start) and HASH.fullmatch(folder.name.removeprefix(start)):
            shutil.rmtree(folder)
