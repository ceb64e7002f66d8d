"""The command line: what a user or the machine did wrong is one line and exit code 2, a traceback a fault of ours"""

import dataclasses
import difflib
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from io import TextIOWrapper
from threading import current_thread, main_thread

import hydra
import yaml
from hydra.core.hydra_config import HydraConfig
from hydra.errors import ConfigCompositionException, HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from tenacity import RetryError

from sharpv import __version__
from sharpv.benchmarks.judge import require_no_secret
from sharpv.configuration import settings
from sharpv.configuration.configure import CONFIGS, names, quoted, register_resolvers, require_effect
from sharpv.configuration.profile import choose
from sharpv.typed import command

COMMANDS = {
    "run": "sharpv.commands.run:run",
    "calibrate": "sharpv.commands.calibrate:calibrate",
    "demo": "sharpv.commands.demo:demo",
    "check": "sharpv.commands.check:check",
    "unpack": "sharpv.commands.unpack:unpack",
    "status": "sharpv.commands.status:status",
    "plan": "sharpv.commands.plan:plan",
    "rehearse": "sharpv.commands.rehearse:rehearse",
}
"""What each command calls, as function(config, command line) -> exit code."""
INTERRUPTED = 130
"""Exit code after Ctrl-C."""
OUT_OF_MEMORY = ("out of memory", "allocate memory", "map segment")
OWN_RUNTIME_ERRORS = ("this job of the sweep", "Could not determine home directory")
"""How the runtime errors begin that are no fault of ours: a sweep's failed job, and pathlib's without $HOME."""


def main(arguments: list[str]) -> int:
    """Run a command line, without the program's name; its exit code where Hydra does not end the process itself."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    if arguments[:1] in (["--help"], ["-h"], ["--version"]):
        print(f"sharpv {__version__}" if arguments[0] == "--version" else usage())
        return 0
    try:
        sys.argv[1:] = overrides(arguments)
        # Here for Hydra, which looks for configurations; in `job` again for processes that a launcher starts.
        register_resolvers()
        job()
    # `refusal` raises again whatever is a fault of ours.
    except Exception as error:
        return refusal(error)
    return 0


def usage() -> str:
    """What can be typed: commands, experiments, and where the settings are listed."""
    return "\n".join(
        [
            f"usage: {command('[COMMAND or EXPERIMENT] [SETTING=VALUE ...]')}",
            f"commands, `run` where none is given: {', '.join(COMMANDS)}",
            f"experiments: {', '.join(names('experiment'))}",
            *(f"{group}=NAME: {', '.join(names(group))}" for group in ("model", "benchmark", "pruner")),
            f"all settings: {command('--cfg job')}",
            f"for example: {command('run model=tiny pruner=sharpv_adaptive benchmark=tiny_mvbench limit=5')}",
            f"             {command('table3 limit=5')}",
        ]
    )


def overrides(arguments: list[str]) -> list[str]:
    """A command line as Hydra takes it; ValueError for a command that there is not."""
    first, *others = arguments or [""]
    if first and "=" not in first and first[0] not in "-+~":
        if first in COMMANDS:
            first = f"command={first}"
        elif first in names("experiment"):
            if not any(other.startswith("profile=") for other in others):
                others = [f"profile={choose('auto', first)[0]}", *others]
            first = f"experiment={first}"
        else:
            raise ValueError(f"unknown command {first!r}.{nearest(first, [*COMMANDS, *names('experiment')])}")
    for argument in [first, *others]:
        # Before Hydra, which prints the command lines of a sweep.
        if (given := argument.partition("="))[0].lstrip("+") == "judge.base_url" and given[2] not in ("", "null"):
            require_no_secret(given[2])
    taken = [f"++{argument}" if _may_be_left_out(argument) else argument for argument in [first, *others]]
    return [quoted(argument) for argument in taken if argument]


def _may_be_left_out(argument: str) -> bool:
    """Whether this sets what a configuration's file may leave out, so that Hydra would want a plus before it."""
    name, equals, _ = argument.partition("=")
    of_stage = re.fullmatch(r"pruner\.(visual|memory)_options\.\w+", name)
    return bool(equals) and (of_stage is not None or (name.startswith("model.") and name in _of_model()))


def _of_model() -> list[str]:
    """What every model's configuration holds; imported with torch, which other commands do without."""
    from sharpv.models.loaded import ModelConfig

    return [f"model.{field.name}" for field in dataclasses.fields(ModelConfig)]


@hydra.main(version_base="1.3", config_path=str(CONFIGS), config_name="config")
def job(config: DictConfig) -> None:
    """One job: the whole command, or one point of a sweep."""
    register_resolvers()
    at = HydraConfig.get()
    try:
        require_effect(config, at.overrides.task)
        module, function = COMMANDS[config.command].split(":")
        settings.require(config)
        called = getattr(import_module(module), function)
        with raising_on_ctrl_c():
            code = called(config, command(" ".join(at.overrides.task)))
    except BrokenPipeError:
        # Whoever read has enough; without this the interpreter would complain when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    # As in `main`; caught here too, since Hydra would print a traceback of its own.
    except Exception as error:
        code = refusal(error)
    if at.mode == RunMode.MULTIRUN and code != INTERRUPTED:
        # Hydra goes on with the other jobs and fails at the end; sys.exit would end the sweep here.
        if code:
            raise RuntimeError(f"this job of the sweep ended with exit code {code}")
        return
    sys.exit(code)


@contextmanager
def raising_on_ctrl_c() -> Iterator[None]:
    """Ctrl-C, which would end the process, is KeyboardInterrupt as Python has it."""
    if current_thread() is not main_thread() or signal.getsignal(signal.SIGINT) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def refusal(error: Exception) -> int:
    """Say what a user or the machine did wrong and return exit code 2; raises what is a fault of ours."""
    told = reason(error)
    if told is None:
        raise error
    print(f"error: {told}", file=sys.stderr)
    return 2


def reason(error: BaseException) -> str | None:
    """What a user is told of an error; None for one that is a fault of ours."""
    if isinstance(error, RetryError):
        found = error.last_attempt.exception()
        return None if found is None else reason(found)
    if isinstance(error, MissingConfigException):
        return _no_such_choice(error)
    if isinstance(error, ConfigCompositionException) and (match := re.match(r"Could not override '(.*)'", str(error))):
        return _no_such_setting(match[1])
    if isinstance(error, OverrideParseException):
        return f"{error.override} cannot be read ({str(error).splitlines()[0]}): put quotes around the value"
    if isinstance(error, HydraException | OmegaConfBaseException | yaml.YAMLError):
        return one_line(re.sub(r"(?s)\nSee https://hydra.cc.*|\s*full_key:.*", "", str(error)))
    if isinstance(error, OSError):
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror or one_line(str(error))}{where}; what is answered is stored, the same command goes on"
    if isinstance(error, MemoryError) or any(sign in str(error) for sign in OUT_OF_MEMORY):
        return f"out of memory ({one_line(str(error))[:200] or type(error).__name__}): the same command goes on there"
    if isinstance(error, ValueError):
        return str(error)
    if isinstance(error, RuntimeError) and str(error).startswith(OWN_RUNTIME_ERRORS):
        return str(error)
    return None


def one_line(text: str) -> str:
    return " ".join(text.split())


def nearest(name: str, valid) -> str:
    """The nearest valid name and all of them, as a hint behind a message."""
    near = difflib.get_close_matches(name, valid, n=1)
    return (f" Did you mean {near[0]!r}?" if near else "") + f" There are: {', '.join(valid)}"


def _no_such_choice(error: MissingConfigException) -> str:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not group or error.options is None:
        return one_line(str(error).split("Config search path")[0])
    return f"unknown {group} {name!r}.{nearest(name, error.options)}"


def _no_such_setting(name: str) -> str:
    if of_stage := re.fullmatch(r"(?:pruner\.)?(visual|memory)\.(\w+)", name):
        return (
            f"there is no setting {name!r}. One of a method's stage is pruner.{of_stage[1]}_options.{of_stage[2]}=VALUE"
        )
    valid = [*settings.RULES, *_of_model()]
    near = difflib.get_close_matches(name, valid, n=1)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return f"there is no setting {name!r}.{hint} One that its file leaves out is given with a plus: +{name}=VALUE"
