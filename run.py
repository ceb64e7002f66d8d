"""Front door: python run.py [command] model=tiny pruner=sharpv_adaptive benchmark=tiny_mvbench"""

import sys
from importlib import import_module

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from sharpv.configuration.configure import quoted, register_resolvers, require_effect

COMMANDS = {
    "run": "sharpv.commands.run:run",
    "calibrate": "sharpv.commands.calibrate:calibrate",
    "demo": "sharpv.commands.demo:demo",
    "check": "sharpv.commands.check:check",
    "unpack": "sharpv.commands.unpack:unpack",
    "status": "sharpv.commands.status:status",
    "plan": "sharpv.commands.plan:plan",
}
"""What each command calls, as function(config, command line) -> exit code."""
INTERRUPTED = 130
"""Exit code after Ctrl-C."""


@hydra.main(version_base="1.3", config_path="configs", config_name="config")
def main(config: DictConfig) -> None:
    register_resolvers()
    job = HydraConfig.get()
    module, function = COMMANDS[config.command].split(":")
    try:
        require_effect(config, job.overrides.task)
        code = getattr(import_module(module), function)(config, "python run.py " + " ".join(job.overrides.task))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    if job.mode == RunMode.MULTIRUN and code != INTERRUPTED:
        # Hydra goes on with the other jobs and fails at the end; sys.exit would end the sweep here.
        if code:
            raise RuntimeError(f"this job of the sweep ended with exit code {code}")
        return
    sys.exit(code)


if __name__ == "__main__":
    # Here for Hydra, which looks for configurations; in `main` again for processes that a launcher starts.
    register_resolvers()
    if len(sys.argv) > 1 and "=" not in sys.argv[1] and not sys.argv[1].startswith("-"):
        if sys.argv[1] not in COMMANDS:
            sys.exit(f"error: unknown command {sys.argv[1]!r}; there are: {', '.join(COMMANDS)}")
        sys.argv[1] = f"command={sys.argv[1]}"
    sys.argv[1:] = map(quoted, sys.argv[1:])
    main()
