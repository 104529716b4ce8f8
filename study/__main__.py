"""`python -m study sync|status|list DIR`."""

from study.tools import main

if __name__ == "__main__":
    main()
