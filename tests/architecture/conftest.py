"""The tests of the architecture share the reader of the source tree."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
