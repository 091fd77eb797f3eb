"""What stands between caller and callee."""
