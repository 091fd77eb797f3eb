"""The plug-ins of these tests are imported by name, in other processes, too."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
