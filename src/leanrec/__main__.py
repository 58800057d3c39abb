"""`python -m leanrec`: the same as the command."""

from leanrec.cli.main import main

if __name__ == "__main__":
    main()
