"""What workers share: words, locks, letters, leases and the purge log, each by itself."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import patch

import pytest

from isr_proxy.coord import host_log
from isr_proxy.coord.board import Board
from isr_proxy.coord.byte_locks import ByteLocks
from isr_proxy.coord.leases import HostLeases
from isr_proxy.coord.placard import Placard
from isr_proxy.coord.wires import Letter, Wires
from isr_proxy.core.purges import Scope, Selector, Subject
from isr_proxy.errors import StoreUnavailable
from tests.harness import eventually
from tests.workers.seats import Row, logs, seated

PAGE = Subject("site.test", "/page", None, ("news",))
NEWS = Selector(Scope.TAG, "news")


# --- words, locks, placards ---


def test_a_word_is_seen_by_a_forked_process_and_by_its_parent() -> None:
    board = Board.make()
    board.epoch = 2**62
    pid = os.fork()
    if not pid:
        board.row(3).applied = board.epoch
        os._exit(0)
    os.waitpid(pid, 0)
    assert board.row(3).applied == 2**62
    assert board.row(2).applied == board.row(4).applied == 0


def test_a_lock_is_had_once_by_anybody() -> None:
    board = Board.make()
    one, other = ByteLocks(board.descriptor), ByteLocks(board.descriptor)
    assert one.take(7)
    assert not one.take(7)  # the kernel would give it to the same process again
    assert not other.take(7)
    assert other.take(8)
    one.give_back(7)
    assert other.take(7)
    one.close()
    other.close()


def test_the_kernel_gives_back_what_a_killed_process_had() -> None:
    board = Board.make()
    mine = ByteLocks(board.descriptor)
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        ByteLocks(board.descriptor).take(7)
        os.write(writing, b"taken")
        signal.pause()
        os._exit(0)
    assert os.read(reading, 5) == b"taken"
    assert not mine.take(7)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert mine.take(7)
    mine.close()
    os.close(reading)
    os.close(writing)


def test_a_placard_says_the_last_whole_thing() -> None:
    placard = Placard("test")
    assert placard.read() == b""
    for text in (b"one", b"two" * 100_000, b"three"):
        placard.write(text)
        assert placard.read() == text
    os.pwrite(placard.descriptor, b"torn", 32)  # where the next text would go
    assert placard.read() == b"three"
    placard.close()


# --- letters ---


async def test_a_question_is_answered_and_the_dead_are_not_waited_for() -> None:
    async with seated(3) as row:
        first, second, third = (seat.post for seat in row.seats)

        async def doubled(body: bytes) -> bytes:
            return body * 2

        second.answer("double", doubled)
        assert await first.ask(1, "double", b"ab", timeout=5.0) == b"abab"
        assert await third.ask(1, "nothing", timeout=0.05) is None
        asking = asyncio.ensure_future(first.ask(2, "double", timeout=30.0))
        await asyncio.sleep(0)
        row.die(2)
        assert await asyncio.wait_for(asking, 5.0) is None
        assert first.others() == [1]


async def test_what_finds_an_inbox_full_is_sent_when_there_is_room() -> None:
    async with seated() as row:
        first, second = row.seats
        heard: list[int] = []
        second.post.on("number", lambda sender, body: heard.append(int(body)))
        row.seats[1].post._loop.remove_reader(row.wires.inbox(1).fileno())  # type: ignore[union-attr]
        for number in range(700):
            first.post.tell(1, "number", str(number).encode())
        second.post.open()
        await eventually(lambda: len(heard) == 700)
        assert heard == list(range(700))


def test_an_inbox_outlives_who_reads_it() -> None:
    wires = Wires(1)
    assert wires.send(0, Letter(1, "hello"))
    pid = os.fork()
    if not pid:
        os._exit(0)
    os.waitpid(pid, 0)
    assert wires.receive(0) == Letter(1, "hello")
    assert wires.receive(0) is None
    wires.close()


# --- leases ---


@asynccontextmanager
async def contended() -> AsyncIterator[tuple[Row, list[HostLeases], asyncio.Future[bytes | None]]]:
    """Have the first of two workers hold a page's lease, and the other wait for it."""
    async with seated() as row:
        leases = row.leases()
        one, other = leases
        assert await one.acquire(b"page", 30.0) is None
        waiting = asyncio.ensure_future(other.acquire(b"page", 30.0))
        await eventually(lambda: row.board.row(1).waiting == 1)
        yield row, leases, waiting


async def test_law_3_a_lease_is_had_by_one_and_the_next_is_woken() -> None:
    async with contended() as (row, (one, _other), waiting):
        assert not waiting.done()
        one.release(b"page")
        assert await asyncio.wait_for(waiting, 0.5) is None  # by the letter: nobody looks again that soon
        assert row.board.row(1).waiting == 0


async def test_law_3_who_waits_learns_what_came_of_it() -> None:
    async with contended() as (_row, (one, other), waiting):
        one.release(b"page", b"it failed")
        assert await asyncio.wait_for(waiting, 0.5) == b"it failed"
        assert await other.acquire(b"page", 30.0) is None  # and the lease is free


async def test_law_3_the_lease_of_the_dead_is_free_at_once() -> None:
    async with contended() as (row, (_one, _other), waiting):
        row.die(0)
        assert await asyncio.wait_for(waiting, 0.5) is None


async def test_law_3_should_a_letter_be_lost_who_waits_looks_for_himself() -> None:
    async with contended() as (row, (one, _other), waiting):
        with patch.object(row.wires, "send", return_value=True):
            one.release(b"page")
        assert await asyncio.wait_for(waiting, 5.0) is None


async def test_law_8_nobody_waits_for_ever() -> None:
    async with seated() as row:
        one, other = row.leases()
        assert await one.acquire(b"page", 30.0) is None
        with pytest.raises(TimeoutError):
            await other.acquire(b"page", 0.05)
        assert row.board.row(1).waiting == 0


async def test_law_3_who_stops_waiting_has_nothing() -> None:
    async with contended() as (row, (one, _other), waiting):
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        one.release(b"page")
        assert await one.acquire(b"page", 30.0) is None
        assert row.board.row(1).waiting == 0


# --- the purge log ---


async def test_law_2_a_record_is_in_force_everywhere_when_append_returns(tmp_path: Path) -> None:
    async with seated(3) as row, logs(row, tmp_path / "log") as (one, two, three):
        before = two.epochs[0]
        sequence = await one.append((NEWS,), now=2_000.0)
        assert [log.epochs[0] for log in (one, two, three)] == [sequence] * 3 != [before] * 3
        assert all(row.board.row(slot).applied == sequence for slot in range(3))
        for log in (one, two, three):
            assert log.index.verdict(PAGE, before).hidden


async def test_law_2_who_was_not_told_judges_by_the_record_all_the_same(tmp_path: Path) -> None:
    async with seated() as row, logs(row, tmp_path / "log") as (one, two):
        before = two.epochs[0]
        with (
            patch.object(row.wires, "send", return_value=True),
            patch.object(host_log, "_ANSWER_SECONDS", 0.05),
        ):
            await one.append((NEWS,), now=2_000.0)
        assert two._index.sequence == before
        assert two.index.verdict(PAGE, before).hidden


async def test_law_2_sequences_grow_whoever_appends(tmp_path: Path) -> None:
    async with seated(3) as row, logs(row, tmp_path / "log") as joined:
        made = await asyncio.gather(*(log.append((NEWS,), now=2_000.0) for log in joined * 4))
        assert len(set(made)) == 12
        assert {log.index.sequence for log in joined} == {max(made)}


async def test_law_2_what_the_disk_refuses_is_in_force_in_every_worker(tmp_path: Path) -> None:
    async with seated() as row, logs(row, tmp_path / "log") as (one, two):
        before = two.epochs[0]
        with (
            patch.object(host_log, "insert", side_effect=sqlite3.OperationalError("disk is full")),
            pytest.raises(StoreUnavailable, match="could not be written"),
        ):
            await one.append((NEWS,), now=2_000.0)
        for log in (one, two):
            assert log.index.verdict(PAGE, before).hidden
            assert not log.index.verdict(Subject("site.test", "/other", None, ()), before).hidden
        assert await two.append((Selector(Scope.HOST, "site.test"),), now=2_000.0) > one.epochs[0] - 1


async def test_law_2_what_only_the_epoch_tells_of_counts_as_the_purge_of_everything(tmp_path: Path) -> None:
    async with seated() as row, logs(row, tmp_path / "log") as (one, _):
        before = one.epochs[0]
        row.board.epoch = before + 1  # whoever recorded it could not write it down, and is dead
        assert one.index.verdict(Subject("any.test", "/any", None, ()), before).hidden
        assert one.index.sequence == before + 1


async def test_law_2_what_is_pruned_is_forgotten_by_all(tmp_path: Path) -> None:
    async with seated() as row, logs(row, tmp_path / "log") as (one, two):
        first = await one.append((NEWS,), now=2_000.0)
        await one.append((Selector(Scope.PATH, "/x"),), now=2_001.0)
        assert len(two.index) == 3
        await one.prune(first)
        await eventually(lambda: len(two.index) == 1)
        assert len(one.index) == 1
