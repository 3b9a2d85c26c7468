"""`python -m zmesh` is the `zmesh` command."""

from zmesh.cli.main import main

if __name__ == "__main__":
    main()
