"""The tests of sandboxes share their plug-ins."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
