"""`python -m tests.fuzz --seconds 60`: every target for its share of the time, one process each.

With atheris, coverage guides how inputs change; where it cannot be installed, chance does. An input that
finds something is printed as a line for the corpus, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import AsyncExitStack, redirect_stderr
from pathlib import Path

LENGTH_MAX = 4096
_HANG_SECONDS = 20
_MEMORY_MB = 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    parser.add_argument("--seconds", type=float, default=60.0, help="for all targets together")
    parser.add_argument("--target", help="one target alone, in this process")
    options = parser.parse_args()
    if options.target is None:
        return _all(options.seconds)
    with tempfile.TemporaryDirectory() as directory:
        return _one(options.target, options.seconds, Path(directory))


def _all(seconds: float) -> int:
    """Run each target in a process of its own: what one finds ends it, not the others."""
    names = ("parsers", "answers", "requests")
    codes = [
        subprocess.run(
            [sys.executable, "-m", "tests.fuzz", "--target", name, "--seconds", str(seconds / len(names))],
            check=False,
        ).returncode
        for name in names
    ]
    return 1 if any(codes) else 0


def _one(name: str, seconds: float, directory: Path) -> int:
    atheris = _atheris()
    if atheris is None:
        run, how = _by_chance, "chance"
    else:
        run, how = _by_coverage, "coverage"
    print(f"{name}: guided by {how}, {seconds:g} s", flush=True)
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    stack = AsyncExitStack()
    feed = _feeder(name, loop, stack, directory)
    return run(name, feed, seconds, directory)


def _atheris() -> object | None:
    try:
        import atheris
    except ImportError:
        return None
    # What is imported from now on tells where its control flow goes.
    with redirect_stderr(io.StringIO()), atheris.instrument_imports(include=["isr_proxy"]):
        import tests.fuzz.targets  # noqa: F401
    found: object = atheris
    return found


def _feeder(
    name: str, loop: asyncio.AbstractEventLoop, stack: AsyncExitStack, directory: Path
) -> Callable[[bytes], None]:
    from tests.fuzz.seeds import text_of
    from tests.fuzz.targets import TARGETS
    from tests.fuzz.world import world

    made = loop.run_until_complete(stack.enter_async_context(world(directory)))
    target = TARGETS[name]

    def feed(data: bytes) -> None:
        try:
            loop.run_until_complete(target(made, data))
        except BaseException:
            print(
                f"\n{name}: found by this line of tests/fuzz/corpus/{name}.txt\n{text_of(data)}\n", flush=True
            )
            raise

    return feed


def _by_coverage(name: str, feed: Callable[[bytes], None], seconds: float, directory: Path) -> int:
    import atheris

    from tests.fuzz.seeds import seeds

    begun = directory / "seeds"
    begun.mkdir()
    for number, data in enumerate(seeds(name)):
        (begun / str(number)).write_bytes(data)
    arguments = [
        f"-max_total_time={max(1, round(seconds))}",
        f"-max_len={LENGTH_MAX}",
        f"-timeout={_HANG_SECONDS}",
        f"-rss_limit_mb={_MEMORY_MB}",
        f"-artifact_prefix={directory}/",
        "-print_final_stats=1",
        "-verbosity=0",
        str(begun),
    ]
    atheris.Setup([sys.argv[0], *arguments], feed)
    atheris.Fuzz()  # ends the process
    return 0


def _by_chance(name: str, feed: Callable[[bytes], None], seconds: float, directory: Path) -> int:
    from tests.fuzz.seeds import seeds

    begun = seeds(name)
    chance = random.Random(0)
    ends_at, number = time.monotonic() + seconds, 0
    while time.monotonic() < ends_at:
        data = begun[number] if number < len(begun) else _changed(chance, begun)
        try:
            feed(data)
        except Exception:
            traceback.print_exc()
            return 1
        number += 1
    print(f"{name}: {number} inputs", flush=True)
    return 0


def _changed(chance: random.Random, begun: list[bytes]) -> bytes:
    """Put two seeds together, and change some bytes."""
    one, other = bytearray(chance.choice(begun)), chance.choice(begun)
    cut = chance.randrange(len(one) + 1)
    one[cut : cut + chance.randrange(20)] = other[chance.randrange(len(other) + 1) :][: chance.randrange(200)]
    for _ in range(chance.randrange(6)):
        if one:
            one[chance.randrange(len(one))] = chance.choice(b"\r\n\t :;,~\x00\xff0159aZ/%?#")
    return bytes(one[:LENGTH_MAX])


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    sys.exit(main())
