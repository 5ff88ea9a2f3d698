"""Measurements, each a program: `python -m bench` beside nginx, `python -m bench.many_urls` for bounds."""
