"""Front door: python run.py model=tiny pruner=sharpv_adaptive benchmark=tiny_mvbench"""

import sys

import hydra
from omegaconf import DictConfig

from sharpv.evaluation.configure import register_resolvers


@hydra.main(version_base="1.3", config_path="configs", config_name="config")
def main(config: DictConfig) -> None:
    from sharpv.evaluation import calibrate, experiment

    action = calibrate.calibrate if config.command == "calibrate" else experiment.run
    try:
        code = action(config, "python run.py " + " ".join(sys.argv[1:]))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)


if __name__ == "__main__":
    register_resolvers()
    if sys.argv[1:2] == ["calibrate"]:
        sys.argv[1] = "command=calibrate"
    main()
