"""Shells around the core: HTTP in, the engine, the admin API, what is observed."""
