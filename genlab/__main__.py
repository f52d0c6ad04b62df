"""`python -m genlab`, the same as the program `genlab`."""

import sys

from genlab.cli.main import main

sys.exit(main())
