"""Front door: sharpv [command | experiment] model=tiny pruner=sharpv_adaptive benchmark=tiny_mvbench"""

import signal
import sys


def main() -> None:
    """Run the command line and end the process with its exit code."""
    # Until a command works, Ctrl-C ends the process at once: libraries that load and Hydra, which composes, turn its
    # exception into others or swallow it. One that is ignored stays so.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
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
