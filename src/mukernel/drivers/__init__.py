"""The drivers: servers that front a device or a system outside."""
