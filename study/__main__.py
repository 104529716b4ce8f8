"""`python -m study sync|status|list DIR`."""

from study.cli import tools_main

if __name__ == "__main__":
    tools_main()
