"""The module of samples is imported by name."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
