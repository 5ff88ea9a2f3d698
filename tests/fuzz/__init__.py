"""Fuzzing: arbitrary bytes through the whole proxy, in one process and without sockets.

    make fuzz                 a minute, shared by all targets (atheris: coverage guides the bytes)
    make fuzz SECONDS=600

`memory.py` stands in for the network, `world.py` is the real worker between a visitor and an origin,
`targets.py` says what is fed where and what must hold, `seeds.py` knows where the bytes begin. What was found
once is a line of `corpus/`, which the ordinary test `test_corpus.py` replays.
"""
