"""`python -m genlab`, the same as the program `genlab`."""

import sys

from genlab.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
