"""The modules beside this file are imported by name, by the processes of plug-ins, too."""

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
