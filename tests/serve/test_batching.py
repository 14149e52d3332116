from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from cxrseg.inference.engine import Engine, Result
from cxrseg.inference.options import Options
from cxrseg.inference.segmenter import Segmenter
from cxrseg.serve.batches import BatchedModel
from made_models import chest


class Slow:
    """A model that notes its batches, and waits for `go` before the first one."""

    def __init__(self, engine: Engine) -> None:
        self.info, self.sha256, self.precision = engine.info, engine.sha256, engine.precision
        self.engine, self.batches = engine, []
        self.started, self.go = threading.Event(), threading.Event()

    def run(self, pixels: np.ndarray) -> Result:
        self.batches.append(len(pixels))
        self.started.set()
        assert self.go.wait(60)
        return self.engine.run(pixels)


def test_calls_that_arrive_while_it_is_busy_are_one_batch_and_get_their_own_answers(options: Options) -> None:
    engine = Engine(options.models[0])
    slow, seen = Slow(engine), []
    batched = BatchedModel(slow, 3, seen.append)
    images = [np.full((1, 128, 128), value, np.float32) for value in (0.1, 0.3, 0.5, 0.7, 0.9)]
    with ThreadPoolExecutor(5) as pool:
        first = pool.submit(batched.run, images[0])
        assert slow.started.wait(60)
        rest = [pool.submit(batched.run, image) for image in images[1:]]
        while batched.waiting < 4:
            slow.started.wait(0.01)
        slow.go.set()
        answers = [future.result() for future in (first, *rest)]
    batched.close()
    assert slow.batches == seen == [1, 3, 1]
    for image, answer in zip(images, answers, strict=True):
        np.testing.assert_array_equal(answer.maps, engine.run(image).maps)
        assert answer.categories is None


def test_an_error_reaches_every_call_and_the_next_ones_work(options: Options) -> None:
    batched = BatchedModel(Engine(options.models[0]), 4)
    with pytest.raises(Exception, match="shape"):
        batched.run(np.zeros((1, 5, 5, 5), np.float32))
    assert batched.run(np.zeros((2, 128, 128), np.float32)).maps.shape == (2, 2, 128, 128)
    batched.close()


def test_segmenters_of_several_tasks_share_a_loaded_model(options: Options) -> None:
    engine = Engine(options.models[0])
    one, other = Segmenter(engine, task="opacity"), Segmenter([engine], task="infection")
    assert one.engines == other.engines == [engine]
    image = chest((90, 80))[0]
    expected = Segmenter(options.models[0], precision="float32").segment(image)
    np.testing.assert_array_equal(one.segment(image).probabilities["lungs"], expected.probabilities["lungs"])
