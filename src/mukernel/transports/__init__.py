"""How messages travel: one contract, many wires."""
