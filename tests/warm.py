"""`python run.py ...` without its seconds of imports: each command is a fork of one process that has made them.

For tests of what a command does. What a process does (signals, the order of imports) is tested on processes of its own.
`python warm.py SOCKET run.py ...` hands a command and its own three files over to that process.
"""

import atexit
import gc
import json
import os
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import traceback
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from tempfile import mkdtemp

LIBRARIES = (
    *("sharpv.commands.front", "sharpv.commands.check", "sharpv.commands.plan", "sharpv.commands.status"),
    *("sharpv.answering.runner", "lmms_eval.tasks", "sharpv.benchmarks.replay", "sharpv.reports.write"),
    *("sharpv.reports.page.build", "sharpv.reports.audit"),
    *("sharpv.models.llava_onevision.loader", "sharpv.models.llava_video.loader"),
    *("sharpv.models.pllava.loader", "sharpv.models.qwen_vl.loader"),
)
OF_A_COMMAND = ("SHARPV_RESULTS", "PYTEST_CURRENT_TEST", "PATH")
"""Variables that no library reads when it is imported; where others differ, another process is started."""


def run(environment, *arguments, folder="."):
    """What `subprocess.run` gives of `python run.py *arguments` in a folder."""
    command = [*python(environment, folder), "run.py", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def python(environment, folder="."):
    """The words that stand for `python` there: a script or a module (`-m`) and its arguments may follow."""
    others = frozenset(item for item in environment.items() if item[0] not in OF_A_COMMAND)
    address, _ = _started(others, str(Path(folder).resolve()))
    return [sys.executable, "-S", __file__, address]


@lru_cache(maxsize=2)
def _started(environment, folder):
    """The socket of a process with the imports made, and that process, which ends when its input does: when nobody
    holds it any more, here or because whoever started it has ended."""
    address = f"{mkdtemp()}/warm"
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, __file__, address], env=dict(environment), cwd=folder, **pipes)
    process.stdout.readline()
    return address, process


def _serve(address):
    """Fork for every command; a fork returns its connection."""
    sys.path[0] = os.getcwd()
    from sharpv import paths

    paths.prepare_command_line()
    paths.go_offline()
    for name in LIBRARIES:
        import_module(name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while sys.stdin not in select.select([sys.stdin, listener], [], [])[0]:
            connection, _ = listener.accept()
            if not os.fork():
                return connection
            connection.close()
    shutil.rmtree(Path(address).parent)
    return None


def _command(connection):
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, *_ = socket.recv_fds(connection, 1, 3)
    for target, file in enumerate(files):
        os.dup2(file, target)
    # The streams that there were remember of their old files whether these can seek.
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115
    sys.stdout, sys.stderr = (open(file, "w", buffering=1, encoding="utf-8") for file in (1, 2))  # noqa: SIM115
    asked = json.load(connection.makefile())
    os.environ.clear()
    os.environ.update(asked["environment"])
    os.chdir(asked["folder"])
    code = 1
    try:
        code = _ran(asked["arguments"])
    except SystemExit as end:
        code = end.code
    except BaseException:
        traceback.print_exc()
    if isinstance(code, str):
        print(code, file=sys.stderr)
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    connection.sendall(str(1 if isinstance(code, str) else code or 0).encode())
    # To take all libraries apart, as the interpreter would now, is two seconds more.
    os._exit(0)


def _ran(arguments):
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv, sys.path[0] = arguments, str(Path(arguments[0]).parent.absolute())
        runpy.run_path(arguments[0], run_name="__main__")
    return 0


def _ask(address, arguments):
    """Hand a command over and give its exit code; 1 where its process died."""
    with socket.socket(socket.AF_UNIX) as server:
        server.connect(address)
        socket.send_fds(server, [b"\n"], [0, 1, 2])
        asked = {"environment": dict(os.environ), "folder": os.getcwd(), "arguments": arguments}
        server.sendall(json.dumps(asked).encode())
        server.shutdown(socket.SHUT_WR)
        return int(server.makefile().read() or 1)


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(_ask(sys.argv[1], sys.argv[2:]))
    if connection := _serve(sys.argv[1]):
        _command(connection)
