"""The command: the installed script ``kdbench``, and ``python -m kdbench``."""

import sys

if __name__ == "__main__" and not sys.flags.safe_path:
    # Before anything else is imported: the current directory, which Python puts first, is a user's.
    del sys.path[0]


def main() -> None:
    """Run the command line in a process that is watched."""
    try:
        from kdbench.command import watched

        with watched():
            from kdbench.cli import main as command_line

            command_line()
    except KeyboardInterrupt:  # before the command line itself hears of it
        sys.stderr.write("stopped\n")
        sys.exit(130)


if __name__ == "__main__":
    from kdbench.child import find_kdbench

    find_kdbench()
    main()
