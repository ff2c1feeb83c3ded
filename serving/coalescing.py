"""Shared calls: requests that arrive while a model computes are answered by its next call together.

Nobody waits for company: a request that finds the model idle is computed at once. A call has one of
a few sizes and is filled up with copies of its last row, because TensorFlow's kernels round
differently for different numbers of rows. `choose_sizes` tries which sizes give the same bits for
the same row at any place, and only those are used: so a row has the same scores alone, in company
and in a batch.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from serving.features import INTEGERS, TEXT, Array, Feature

SIZES = (16, 64, 256, 1024)
_PROBE_SECONDS = 0.25  # that one call of a size may take, for the size to be tried and used
# How far the rows are moved to try their places, by size.
_SHIFTS = {16: (1, 3, 7, 8, 13), 64: (0, 5, 11), 256: (0, 9), 1024: (0, 13)}
_THREADS = 64  # as many models as may compute at the same time

Arrays = Mapping[str, Array]
Outputs = dict[str, Array]
Shapes = tuple[tuple[str, tuple[int, ...]], ...]
Call = Callable[[Arrays], Outputs]
"""Computes all outputs of rows, each [n, ...]; it may raise."""

# Starts a thread only when a model computes while all others do.
_POOL = ThreadPoolExecutor(_THREADS, thread_name_prefix="model")


@dataclass(frozen=True)
class _Waiting:
    """A request that waits for a call; those of the same shapes may share one."""

    arrays: Arrays
    rows: int
    shapes: Shapes
    outputs: Future[Outputs] = field(default_factory=Future)


class SharedCalls:
    """Calls one model, one call at a time, oldest request first. From any thread.

    Args:
        call: Computes rows; it must compute each as if it were alone.
        sizes: Numbers of rows that a call may have, ascending; none: every request has a call of
            its own, at its own size.

    Attributes:
        calls: How many calls were made for requests.
        requests: How many requests they answered.
    """

    def __init__(self, call: Call, sizes: Sequence[int] = SIZES) -> None:
        self._call, self.sizes = call, tuple(sizes)
        self._waiting: deque[_Waiting] = deque()
        self._computing = False
        self._lock = threading.Lock()
        self.calls = 0
        self.requests = 0

    def answer(self, arrays: Arrays) -> Outputs:
        """Gives the outputs of a request's rows.

        What the model raises on these rows is raised here; other requests that shared the call get
        their answers.
        """
        request = _Waiting(arrays, _count(arrays), _shapes(arrays))
        with self._lock:
            self._waiting.append(request)
            idle = not self._computing or not self.sizes
            self._computing = True
        if idle:  # this thread computes; whoever comes meanwhile is not its to wait for
            self._answer_all(self._take())
            with self._lock:
                self._computing = bool(self._waiting)
                if self._computing:
                    _POOL.submit(self._work)
        return request.outputs.result()

    async def answer_soon(self, arrays: Arrays) -> Outputs:
        """Gives what `answer` gives; no thread waits for it."""
        request = _Waiting(arrays, _count(arrays), _shapes(arrays))
        with self._lock:
            self._waiting.append(request)
            idle = not self._computing or not self.sizes
            self._computing = True
        if idle:
            _POOL.submit(self._work)
        return await asyncio.wrap_future(request.outputs)

    def compute(self, arrays: Arrays) -> Outputs:
        """Computes rows now, in this thread, in calls of the allowed sizes."""
        rows = _count(arrays)
        if not self.sizes or not rows:
            return self._call(arrays)
        largest = self.sizes[-1]
        parts = [
            self._padded({name: values[at : at + largest] for name, values in arrays.items()})
            for at in range(0, rows, largest)
        ]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _padded(self, arrays: Arrays) -> Outputs:
        rows = _count(arrays)
        size = next(size for size in self.sizes if size >= rows)
        if size == rows:
            return self._call(arrays)
        filled = {
            name: np.concatenate([values, np.repeat(values[-1:], size - rows, axis=0)])
            for name, values in arrays.items()
        }
        return {name: values[:rows] for name, values in self._call(filled).items()}

    def _work(self) -> None:
        """Computes until nobody waits."""
        while requests := self._take():
            self._answer_all(requests)

    def _take(self) -> list[_Waiting]:
        """Takes the oldest request, and those behind it that fit into its call."""
        with self._lock:
            if not self._waiting:
                self._computing = False
                return []
            taken = [self._waiting.popleft()]
            room = self.sizes[-1] - taken[0].rows if self.sizes else 0
            left: deque[_Waiting] = deque()
            while self._waiting and room > 0:
                request = self._waiting.popleft()
                if request.rows <= room and request.shapes == taken[0].shapes:
                    taken.append(request)
                    room -= request.rows
                else:
                    left.append(request)
            left.extend(self._waiting)
            self._waiting = left
            self.calls += 1
            self.requests += len(taken)
            return taken

    def _answer_all(self, taken: Sequence[_Waiting]) -> None:
        # A server that stops cancels who waits; from here on nobody can be.
        requests = [each for each in taken if each.outputs.set_running_or_notify_cancel()]
        if len(requests) < 2:
            for request in requests:
                self._answer_one(request)
            return
        try:
            together = self.compute(
                {
                    name: np.concatenate([request.arrays[name] for request in requests])
                    for name in requests[0].arrays
                }
            )
        except Exception:  # one of them is at fault: only that one shall hear of it
            for request in requests:
                self._answer_one(request)
            return
        start = 0
        for request in requests:
            rows = slice(start, start + request.rows)
            start += request.rows
            request.outputs.set_result({name: values[rows] for name, values in together.items()})

    def _answer_one(self, request: _Waiting) -> None:
        try:
            outputs = self.compute(request.arrays)
        except BaseException as error:  # whatever it is, who waits must hear of it
            request.outputs.set_exception(error)
        else:
            request.outputs.set_result(outputs)


def choose_sizes(call: Call, features: Sequence[Feature]) -> tuple[int, ...]:
    """Finds the sizes of calls at which a row's outputs do not depend on its company, to the bit.

    A fixed sample of rows is computed at different places of calls of each size. A size at which a
    call takes long is not tried, nor used.

    Returns:
        The sizes, ascending; none: the outputs depend on the number of rows, or on the place.
    """
    sample = _sample_rows(features, SIZES[0])
    chosen: list[int] = []
    try:
        reference = call(sample)
        for size in SIZES:
            began = time.monotonic()
            if all(_agrees(call, sample, reference, size, shift) for shift in _SHIFTS[size]):
                chosen.append(size)
            elif size == SIZES[0]:
                return ()
            if time.monotonic() - began > _PROBE_SECONDS * len(_SHIFTS[size]) / 4:
                break  # the next is four times as large
    except Exception:  # a model that does not take such values cannot be tried
        return ()
    return tuple(chosen)


def _agrees(call: Call, sample: Arrays, reference: Outputs, size: int, shift: int) -> bool:
    places = (np.arange(size) + shift) % SIZES[0]
    outputs = call({name: values[places] for name, values in sample.items()})
    return all(
        outputs[name].tobytes() == np.ascontiguousarray(values[places]).tobytes()
        for name, values in reference.items()
    )


def _sample_rows(features: Sequence[Feature], rows: int) -> dict[str, Array]:
    """Makes rows of values that differ, within the features' domains: each [rows, ...]."""
    random = np.random.default_rng(0)
    sample = {}
    for feature in features:
        shape = [rows, *(1 if size is None else size for size in feature.shape)]
        count = math.prod(shape)
        domain = feature.domain
        low = domain.low if domain is not None and domain.low is not None else 0.0
        high = domain.high if domain is not None and domain.high is not None else low + 16.0
        values: Array
        if feature.dtype == TEXT:
            words = domain.values if domain is not None and domain.values else list("abcdefgh")
            values = np.array([str(word).encode() for word in random.choice(words, count)], object)
        elif feature.dtype in INTEGERS:
            values = random.integers(int(low), int(min(high, low + 1000)) + 1, count)
        else:
            values = random.uniform(low, high, count)
        kind = object if feature.dtype == TEXT else feature.dtype
        sample[feature.name] = values.astype(kind).reshape(shape)
    return sample


def _shapes(arrays: Arrays) -> Shapes:
    return tuple((name, values.shape[1:]) for name, values in sorted(arrays.items()))


def _count(arrays: Arrays) -> int:
    return len(next(iter(arrays.values())))
