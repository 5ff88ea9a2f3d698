"""What a process tree has cost, and that nothing of it stays."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bench import costs, processes

WORK = "import time\ndef work():\n while time.thread_time() < 0.1: pass\n"
THREADS = (
    WORK + "import threading\nfor _ in range(3):\n t = threading.Thread(target=work); t.start(); t.join()\n"
)
CHILD = WORK + "import os\nif os.fork() == 0:\n work(); os._exit(0)\nos.wait()\n"
WAIT = "print(flush=True); input()\n"


@pytest.mark.parametrize(("script", "least"), [(THREADS, 0.29), (CHILD, 0.08)], ids=["threads", "child"])
def test_time_of_what_has_ended_is_not_lost(script: str, least: float) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", script + WAIT], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert costs.cpu_seconds([process.pid]) >= least
        process.communicate(b"\n")


def test_the_clock_is_fine() -> None:
    before, begun = costs.cpu_seconds([os.getpid()]), time.process_time()
    while time.process_time() - begun < 0.005:
        pass
    took = costs.cpu_seconds([os.getpid()]) - before
    assert 0.005 <= took < 0.5


def test_a_process_that_is_gone_costs_nothing() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert costs.tree(process.pid) == []
    assert costs.resident_bytes(process.pid) == costs.open_files(process.pid) == 0


def test_descendants_are_stopped_too(tmp_path: Path) -> None:
    """The child takes no notice of TERM, and its parent leaves it behind."""
    script = (
        "import os, signal, socket, sys, time\n"
        "if os.fork() == 0:\n"
        " signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        " time.sleep(60)\n"
        "listener = socket.create_server(('127.0.0.1', int(sys.argv[1])))\n"
        "time.sleep(60)\n"
    )
    port = processes.free_port()
    with processes.listening([sys.executable, "-c", script, str(port)], port) as process:
        family = costs.tree(process.pid)
        assert len(family) == 2
    assert [pid for pid in family if is_alive(pid)] == []


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie that init has yet to bury does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_a_command_that_fails_says_why(tmp_path: Path) -> None:
    script = "import sys; sys.exit('no such option')"
    output = tmp_path / "output"
    command = [sys.executable, "-c", script]
    with (
        pytest.raises(processes.CannotStart, match="no such option"),
        processes.listening(command, processes.free_port(), output=output),
    ):
        pass
