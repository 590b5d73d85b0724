"""Where do calls on a GPU take place?  On a stream of the device, with memory ordered by it.

All Functions of a process that use a device share its primary context, its lanes and one set of
staging buffers. A lane is a stream with an arena: since the stream does one thing after the other,
the arena of a call is free again for the next as soon as that is put on the stream, and nobody
waits for it. What a call reads must stay where it is until the device has read it: `keep` holds it
until an event has passed.

Calls are on the first lane, unless the caller names a stream of its own: each of those has a lane,
up to `MOST_LANES`, and events order the two. Nothing is ever put on a stream that its owner might
destroy. The streams are ones that the legacy default stream waits for, and that wait for it, so
arrays of libraries which work there need no further synchronisation.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from graphc.codegen.tactics import GPU
from graphc.errors import CompileError
from graphc.runtime.cuda import driver as cuda_driver
from graphc.runtime.cuda.driver import CudaError, Driver, Handle

# Where parts of the arena begin: lines of the caches, and more than any vector access needs.
LINE = 256
# Bytes and number of the host buffers that copies go through.
CHUNK_BYTES, CHUNKS = 4 << 20, 3
# Streams that calls of a process can be on at a time, and streams that a graph is made on: so many
# of its launches can run side by side.
MOST_LANES, BRANCHES = 4, GPU.branches
# Of the memory of a device, what its pool keeps rather than give back at a synchronisation.
_KEPT_SHARE = 0.5


def rounded(nbytes: int, unit: int = LINE) -> int:
    return -(-nbytes // unit) * unit


class Device:
    """A GPU: what it can take, its lanes and staging. Calls hold `in_use` throughout."""

    def __init__(self, driver: Driver, ordinal: int) -> None:
        count = driver.device_count()
        if not 0 <= ordinal < count:
            there = "there is none" if count == 0 else f"they are numbered 0 to {count - 1}"
            raise CompileError(f"there is no GPU number {ordinal}: {there}")
        self.driver = driver
        self.ordinal = ordinal
        self.handle = driver.device(ordinal)
        self.name = driver.device_name(self.handle)
        self.capability = (
            self.attribute("COMPUTE_CAPABILITY_MAJOR"),
            self.attribute("COMPUTE_CAPABILITY_MINOR"),
        )
        if not self.attribute("MEMORY_POOLS_SUPPORTED"):
            raise CompileError(
                f"{self.name} has no stream-ordered memory (cuMemAllocAsync), which graphc needs"
            )
        self.shared_bytes = self.attribute("MAX_SHARED_MEMORY_PER_BLOCK")
        self.threads = self.attribute("MAX_THREADS_PER_BLOCK")
        self._lock = threading.RLock()
        self._context = driver.primary_context(self.handle)
        self._held: collections.deque[tuple[Handle, Any]] = collections.deque()
        self._dropped: collections.deque[Callable[[], None]] = collections.deque()
        with self._lock, driver.current(self._context):
            self.lane = Lane(self)
            self.lanes = [self.lane]
            # While a stream is captured nobody may use what would wait for it, and other libraries
            # use the default stream when they like: graphs are made on streams apart.
            self.capture_streams = [driver.new_stream(apart=True) for _ in range(BRANCHES)]
            driver.keep_freed_memory(self.handle, int(driver.memory()[1] * _KEPT_SHARE))
        self._lane_of: collections.OrderedDict[int, Lane] = collections.OrderedDict()
        self.staging = Staging(self)

    def attribute(self, name: str) -> int:
        return self.driver.device_attribute(self.handle, name)

    @contextlib.contextmanager
    def in_use(self, caller: int | None = None, lane: Lane | None = None) -> Iterator[None]:
        """The device is this thread's, and its context the current one. What is done inside comes
        after what the stream `caller` has to do now, and before what is put on that later.
        """
        with self._lock, self.driver.current(self._context):
            before = self.lane
            self.lane = lane or self._lane(caller)
            try:
                if caller is None:
                    yield
                else:
                    with self._ordered_with(caller):
                        yield
            finally:
                self.lane = before

    @contextlib.contextmanager
    def _ordered_with(self, caller: int) -> Iterator[None]:
        self.wait_for_stream(caller)
        try:
            yield
        except BaseException:
            with contextlib.suppress(CudaError):  # the first error is the one to tell
                self.make_stream_wait(caller)
            raise
        self.make_stream_wait(caller)

    def _lane(self, caller: int | None) -> Lane:
        """The lane of a caller's stream: where it was the last time, a new one, or that of the
        stream that was not used for longest.
        """
        if caller is None:
            return self.lanes[0]
        found = self._lane_of.pop(caller, None)
        if found is None and len(self.lanes) <= MOST_LANES:
            found = Lane(self)
            self.lanes.append(found)
        if found is None:
            self.driver.synchronize_context()  # what a caller had from a lane may still be read
            _, found = self._lane_of.popitem(last=False)
        self._lane_of[caller] = found
        return found

    @property
    def stream(self) -> Handle:
        """The stream of the lane in use: what calls put their work on."""
        return self.lane.stream

    @property
    def arena(self) -> Arena:
        """The arena of the lane in use."""
        return self.lane.arena

    # -- memory ------------------------------------------------------------------------------------

    def allocate(self, nbytes: int, what: str) -> Memory:
        """Device memory; raises MemoryError, saying what it is for, if there is not enough."""
        self.tidy()
        return Memory(self.lane, self.address_of_new(nbytes, what), nbytes)

    def address_of_new(self, nbytes: int, what: str) -> int:
        """The address of new memory that the caller gives back."""
        for is_last in (False, True):
            try:
                return self.driver.allocate(max(nbytes, 1), self.stream)
            except CudaError as error:
                if not error.is_out_of_memory:
                    raise
                if is_last:
                    break
            # Calls that are under way may hold arrays that nobody else does, and what was given
            # back on another lane may still be read on a stream of that lane's caller.
            self.driver.synchronize_context()
            self.tidy()
            for lane in self.lanes:
                lane.tidy()
            self.wait_for_all()  # and now they are freed
        free, there = self.driver.memory()
        raise MemoryError(
            f"{what} takes {nbytes} bytes on {self.name}, of whose {there} bytes {free} are free"
        )

    def drop(self, *releases: Callable[[], None]) -> None:
        """Note calls of the driver that release what calls under way may still use."""
        self._dropped.extend(releases)

    def keep(self, *objects: Any) -> None:
        """Hold objects until the device has done all that is on its stream now."""
        self._held.append((self.driver.record(self.stream), objects))

    def tidy(self) -> None:
        """Let go of what the device no longer needs."""
        while self._held and self.driver.has_passed(self._held[0][0]):
            event, _ = self._held.popleft()
            self.driver.drop_event(event)
        self.lane.tidy()
        if self._dropped:
            self.wait_for_all()
        while self._dropped:
            self._dropped.popleft()()

    def wait_for_all(self) -> None:
        """Wait until the device has done all that is on its streams."""
        for lane in self.lanes:
            self.driver.synchronize(lane.stream)

    def synchronize(self) -> None:
        """Wait until the device has done all that is on its streams, and let go of what that used.
        """
        self.wait_for_all()
        self.tidy()

    # -- other streams -----------------------------------------------------------------------------

    def wait_for_stream(self, other: int) -> None:
        """What is put on the stream from now on begins after what `other` has to do now."""
        self._order(self.driver.stream(other), self.stream)

    def make_stream_wait(self, other: int) -> None:
        """What is put on the stream `other` from now on begins after what this one has to do."""
        self._order(self.stream, self.driver.stream(other))

    def come_after(self, memory: Memory) -> None:
        """What is put on the stream from now on begins after what is under way in memory that
        another lane has written.
        """
        if memory.lane is not self.lane:
            self._order(memory.lane.stream, self.stream)

    def come_after_all(self) -> None:
        """The same of all that is under way on any lane."""
        for lane in self.lanes:
            if lane is not self.lane:
                self._order(lane.stream, self.stream)

    def _order(self, first: Handle, then: Handle) -> None:
        event = self.driver.record(first)
        try:
            self.driver.make_wait(then, event)
        finally:
            self.driver.drop_event(event)  # the driver keeps it until it has passed


class Lane:
    """A stream of the device, and the memory that is ordered by it."""

    def __init__(self, device: Device) -> None:
        self.device = device
        self.stream = device.driver.new_stream()
        self.arena = Arena(self)
        self._given_back: collections.deque[int] = collections.deque()

    def give_back(self, address: int) -> None:
        """Note memory that nobody refers to any more. This runs wherever Python drops an object, so
        it neither waits nor calls the driver. The next call on this lane frees it, which by then is
        ordered after what its caller has put on a stream of its own.
        """
        self._given_back.append(address)

    def tidy(self) -> None:
        """Free what was given back."""
        while self._given_back:
            self.device.driver.free(self._given_back.popleft(), self.stream)


class Memory:
    """Device memory that is given back when the last reference to it goes. `lane` is the one that
    has written to it last.
    """

    def __init__(self, lane: Lane, address: int, nbytes: int) -> None:
        self.lane = lane
        self.device = lane.device
        self.address = address
        self.nbytes = nbytes
        # At exit the driver frees everything, and may be gone already.
        weakref.finalize(self, lane.give_back, address).atexit = False


class Arena:
    """One piece of device memory, as large as any call so far has needed.

    It is exchanged for a larger one in the order of the stream: what was put on it before has the
    old one to itself until it is done.
    """

    def __init__(self, lane: Lane) -> None:
        self.lane = lane
        self.nbytes = 0
        self._address = 0

    def reserve(self, nbytes: int) -> int:
        """The address of so many bytes, the same as the last time if they suffice."""
        if nbytes > self.nbytes or not self._address:
            if self._address:
                address, self._address, self.nbytes = self._address, 0, 0
                self.lane.device.driver.free(address, self.lane.stream)
            wanted = max(rounded(nbytes), LINE)
            self._address = self.lane.device.address_of_new(wanted, "what a call needs at a time")
            self.nbytes = wanted
        return self._address


class Staging:
    """Copies between arrays and the device through host memory that the device can reach by itself.

    The copy of one chunk by the processor and that of the other by the device go on side by side.
    """

    def __init__(self, device: Device) -> None:
        self.device = device
        self._chunks: list[np.ndarray[Any, Any]] = []
        self._events: list[Handle | None] = []
        self._turn = 0

    def upload(self, target: int, array: np.ndarray) -> None:
        """Put the elements of a C-contiguous array at an address."""
        driver, stream = self.device.driver, self.device.stream
        for source, start in _pieces(array):
            chunk, number = self._next()
            chunk[: len(source)] = source
            address = chunk.__array_interface__["data"][0]
            driver.upload(target + start, address, len(source), stream)
            self._events[number] = driver.record(stream)

    def download(self, array: np.ndarray, source: int) -> None:
        """Fill a C-contiguous array from an address, after all that is on the stream."""
        driver, stream = self.device.driver, self.device.stream
        waiting: collections.deque[tuple[Any, int]] = collections.deque()

        def finish() -> None:
            target, number = waiting.popleft()
            self._wait(number)
            target[:] = self._chunks[number][: len(target)]

        for target, start in _pieces(array):
            if len(waiting) == CHUNKS:
                finish()
            chunk, number = self._next()
            address = chunk.__array_interface__["data"][0]
            driver.download(address, source + start, len(target), stream)
            self._events[number] = driver.record(stream)
            waiting.append((target, number))
        while waiting:
            finish()

    def _next(self) -> tuple[Any, int]:
        """A chunk that the device is through with, and its number."""
        if len(self._chunks) < CHUNKS:
            address = self.device.driver.allocate_pinned(CHUNK_BYTES)
            memory = (ctypes.c_uint8 * CHUNK_BYTES).from_address(address)
            self._chunks.append(np.ctypeslib.as_array(memory))
            self._events.append(None)
            return self._chunks[-1], len(self._chunks) - 1
        number = self._turn
        self._turn = (number + 1) % CHUNKS
        self._wait(number)
        return self._chunks[number], number

    def _wait(self, number: int) -> None:
        event, self._events[number] = self._events[number], None
        if event is not None:
            try:
                self.device.driver.wait_for(event)
            finally:
                self.device.driver.drop_event(event)


def _pieces(array: np.ndarray) -> Iterator[tuple[Any, int]]:
    """The bytes of an array, a chunk at a time, and where each begins."""
    flat = array.reshape(-1).view(np.uint8) if array.size else np.empty(0, np.uint8)
    for start in range(0, len(flat), CHUNK_BYTES):
        yield flat[start : start + CHUNK_BYTES], start


_DEVICES: dict[tuple[int, int], Device] = {}
_DEVICES_LOCK = threading.Lock()


def device(ordinal: int) -> Device:
    """The device of a number, one object in a process. Raises CompileError if there is none."""
    api = cuda_driver.bindings().driver
    with _DEVICES_LOCK:
        if (id(api), ordinal) not in _DEVICES:
            _DEVICES[id(api), ordinal] = Device(Driver(api), ordinal)
        return _DEVICES[id(api), ordinal]


__all__ = ["Arena", "Device", "Lane", "Memory", "Staging", "device", "rounded"]
