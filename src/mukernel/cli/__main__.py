"""`python -m mukernel.cli`: the command line where its script is not on the path."""

import sys

from .main import main

sys.exit(main())
