from __future__ import annotations

import asyncio
import threading
import time

import pytest

from cxrseg.serve.problems import Problem
from cxrseg.serve.work import WorkQueue


def test_calls_that_would_wait_for_most_of_the_timeout_are_refused_at_once() -> None:
    queue, go = WorkQueue(workers=1, most=1000, timeout=30.0), threading.Event()

    async def calls() -> list[int | Problem]:
        await queue.do(time.sleep, 0.3)  # so 50 calls will probably take 15 s
        tasks = [asyncio.create_task(queue.do(lambda number: go.wait(60) and number, number)) for number in range(60)]
        await asyncio.sleep(0)  # each has been accepted or refused now
        go.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    answers = asyncio.run(calls())
    refused = [answer for answer in answers if isinstance(answer, Problem)]
    accepted = len(answers) - len(refused)
    assert 1 <= accepted <= 51
    assert answers[:accepted] == list(range(accepted))
    assert {problem.status for problem in refused} == {429}
    assert "too long for a timeout of 30 s" in refused[0].detail
    assert 15 <= int(refused[0].headers["Retry-After"]) < 60
    assert queue.open == 0
    queue.close()


def test_a_call_that_finds_a_free_thread_is_never_refused() -> None:
    queue = WorkQueue(workers=1, most=10, timeout=0.2)
    with pytest.raises(Problem, match="no answer within"):
        asyncio.run(queue.do(time.sleep, 0.5))
    while queue.open:
        time.sleep(0.01)
    assert asyncio.run(queue.do(lambda: "done")) == "done"  # although calls took longer than the timeout, by their mean
    queue.close()
