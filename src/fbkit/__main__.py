"""Where the program starts: the ``fbkit`` script, ``python -m fbkit``, and torchrun with ``-m fbkit``."""

import sys


def main() -> None:
    """Load the command line and run it; Ctrl-C while it loads is an ordinary end."""
    try:
        from fbkit.cli import main as run
    except KeyboardInterrupt:
        sys.stderr.write("fbkit: interrupted\n")
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
