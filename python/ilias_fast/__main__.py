"""`python -m ilias_fast` is the command `ilias-fast`."""

from ilias_fast.cli import main

if __name__ == "__main__":
    main()
