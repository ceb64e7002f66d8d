"""The fixtures in the hub's layout, and the command line over a copy of them."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import warm

FIXTURES = Path(__file__).parent / "fixtures" / "hub_home"


def copied(tmp_path_factory):
    """What HF_HOME is to a user, in a copy that caches may be written to."""
    folder = tmp_path_factory.mktemp("home") / "hub_home"
    shutil.copytree(FIXTURES, folder)
    return folder


def run(home, results, *arguments):
    return warm.run(environment(home, results), *arguments)


def run_once(home, results, *arguments):
    """In a process of its own, for a home of which one command is asked."""
    command = [sys.executable, "run.py", *arguments]
    return subprocess.run(command, env=environment(home, results), capture_output=True, text=True, check=False)


def environment(home, results):
    return os.environ | {"HF_HOME": str(home), "SHARPV_RESULTS": str(results)}
