"""A wheel carries configurations, tasks and the paper's numbers inside the package; the rest is in pyproject.toml."""

from pathlib import Path
from shutil import copytree, ignore_patterns

from setuptools import setup
from setuptools.command.build_py import build_py

CARRIED = {"configs": "_configs", "tasks": "_tasks", "results/paper": "_paper"}


class Build(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            for source, name in CARRIED.items():
                target = Path(self.build_lib, "sharpv", name)
                # tasks/tiny/data is made by runs.
                copytree(source, target, dirs_exist_ok=True, ignore=ignore_patterns("data"))


setup(cmdclass={"build_py": Build})
