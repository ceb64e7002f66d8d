"""Which profile a table is made with: `python -m sharpv.configuration.profile [auto|tiny|paper] [table3]` prints it."""

import sys

from omegaconf import OmegaConf

from sharpv.benchmarks.availability import weights
from sharpv.configuration import configure

NEEDED_GB = 40


def choose(requested: str = "auto", experiment: str = "table3") -> tuple[str, str]:
    """The profile to run an experiment with and the reason. ValueError for an unknown one."""
    if requested in configure.names("profile"):
        return requested, "it was asked for (PROFILE)"
    if requested != "auto":
        raise ValueError(f"PROFILE={requested!r} is not one of auto, {', '.join(configure.names('profile'))}")
    import torch

    if not torch.cuda.is_available():
        return "tiny", "there is no CUDA device"
    memory = torch.cuda.get_device_properties(0).total_memory / 1e9
    if memory < NEEDED_GB:
        return "tiny", f"the CUDA device has {memory:.0f} GB, the paper's models need {NEEDED_GB}"
    files = (configure.CONFIGS / "config.yaml", configure.CONFIGS / "experiment" / f"{experiment}.yaml")
    models = OmegaConf.merge(*map(OmegaConf.load, files)).of_profile.paper_models
    found = [weights(configure.load("model", name)) for name in models]
    if missing := [finding.told for finding in found if finding.problem]:
        return "tiny", "; ".join(missing)
    return "paper", "a CUDA device and the weights are there"


if __name__ == "__main__":
    try:
        profile, reason = choose(*sys.argv[1:])
    except ValueError as error:
        sys.exit(f"error: {error}")
    print(f"profile {profile}: {reason}; override with PROFILE=tiny or PROFILE=paper", file=sys.stderr)
    print(profile)
