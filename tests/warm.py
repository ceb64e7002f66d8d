"""`python run.py ...` without its seconds of imports: each command is a fork of one process that has made them.

For tests of what a command does. What a process does (signals, several at once, the order of imports) is tested on
processes of its own.
"""

import atexit
import gc
import json
import os
import runpy
import subprocess
import sys
import traceback
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory

LIBRARIES = (
    *("sharpv.commands.front", "sharpv.commands.check", "sharpv.commands.plan", "sharpv.commands.status"),
    *("sharpv.answering.runner", "lmms_eval.tasks", "sharpv.benchmarks.replay", "sharpv.reports.write"),
    *("sharpv.models.llava_onevision.loader", "sharpv.models.llava_video.loader"),
    *("sharpv.models.pllava.loader", "sharpv.models.qwen_vl.loader"),
)
OF_A_COMMAND = ("SHARPV_RESULTS", "PYTEST_CURRENT_TEST")
"""Variables that no library reads when it is imported; where others differ, another process is started."""


def run(environment, *arguments, folder="."):
    """What `subprocess.run` gives of `python run.py *arguments` in a folder."""
    own = {name: environment[name] for name in OF_A_COMMAND if name in environment}
    process = _started(frozenset((environment.items()) - own.items()), str(folder))
    with TemporaryDirectory() as said:
        process.stdin.write(json.dumps({"environment": own, "arguments": arguments, "said": said}) + "\n")
        process.stdin.flush()
        code = int(process.stdout.readline())
        out, err = ((Path(said) / name).read_text(encoding="utf-8") for name in ("out", "err"))
    return subprocess.CompletedProcess(["python", "run.py", *arguments], code, out, err)


@lru_cache(maxsize=2)
def _started(environment, folder):
    """The process with the imports made, which ends when its input does, also with whoever started it."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, __file__], env=dict(environment), cwd=folder, **pipes)


def _serve():
    """Fork a command for every line of the input and print its exit code; a fork returns what it is to do."""
    # What a library prints is no exit code.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path[0] = os.getcwd()
    from sharpv import paths

    paths.prepare_command_line()
    paths.go_offline()
    for name in LIBRARIES:
        import_module(name)
    gc.freeze()
    for line in sys.stdin:
        process = os.fork()
        if not process:
            return json.loads(line)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), file=answers, flush=True)
    return None


def _command(environment, arguments, said):
    for target, name in enumerate((os.devnull, f"{said}/out", f"{said}/err")):
        os.dup2(os.open(name, os.O_RDWR | os.O_CREAT), target)
    os.environ.update(environment)
    sys.argv, code = ["run.py", *arguments], 1
    try:
        runpy.run_path("run.py", run_name="__main__")
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    # To take all libraries apart, as the interpreter would now, is two seconds more.
    os._exit(code)


if __name__ == "__main__" and (asked := _serve()):
    _command(**asked)
