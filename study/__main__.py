"""Entry point of `python -m study sync|status|list DIR` and `python -m study embed MODEL FOLDER`."""

from study.cli.commands import main

if __name__ == "__main__":
    main()
