"""How messages name commands, so that they can be typed where they are read: in a checkout, or from a wheel."""

from sharpv import paths


def command(words: str) -> str:
    """A command of ours: `python run.py WORDS` in a checkout, `sharpv WORDS` from a wheel, which carries no run.py."""
    return f"{'sharpv' if paths.INSTALLED else 'python run.py'} {words}".strip()


def table(name: str) -> str:
    """The command that answers for a table and writes it."""
    return f"sharpv {name}" if paths.INSTALLED else f"make {name}"


def page(experiment: str) -> str:
    """The command that makes the page of an experiment."""
    if paths.INSTALLED:
        return f"python -m sharpv.reports.page.build --experiment {experiment}"
    return f"make report EXPERIMENT={experiment}"
