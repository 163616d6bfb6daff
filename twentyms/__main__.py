"""`python -m twentyms` is the command `twentyms`."""

from .cli import main

if __name__ == "__main__":
    main()
