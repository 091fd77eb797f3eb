"""Adapters: by which code and hosts that were written for something else use mukernel."""
