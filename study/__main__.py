"""Entry point of `python -m study`; the commands are in `study.cli.commands`."""

from study.cli.commands import main

if __name__ == "__main__":
    main()
