"""The plug-in core system: what plug-ins there are, where they run, and how they are replaced."""
