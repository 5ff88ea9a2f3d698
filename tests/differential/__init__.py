"""The same generated exchanges through nginx and through the pass path: what differs has a name.

exchanges.py makes them from a seed, origin.py answers, client.py asks, nginx.py is the other proxy, known.py
lists every difference that is meant, with its reason. `ISR_DIFFERENTIAL_SEED=7` asks other questions.
"""
