"""Servers: plug-ins that ship with mukernel and do what a monolithic kernel would do itself."""
