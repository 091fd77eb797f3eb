"""The sandbox of a process of plug-ins: what of the machine it can reach, held by the system and not by us."""
