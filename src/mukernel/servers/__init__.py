"""The servers: ordinary plug-ins that do what a monolithic kernel would do itself."""
