"""Front door: sharpv [command | experiment] model=tiny pruner=sharpv_adaptive benchmark=tiny_mvbench"""

import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    # The libraries are imported here, so that Ctrl-C while they are ends in one line too.
    try:
        from sharpv import paths

        paths.prepare_command_line()
        from sharpv.commands import front

        sys.exit(front.main(sys.argv[1:]))
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
