"""Wiring: the only place where adapters are named."""
