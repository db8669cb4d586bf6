"""`python -m release`: the command line, where no console script is installed."""

from release.cli import main

if __name__ == "__main__":
    main()
