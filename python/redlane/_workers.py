"""Worker threads: functions that may outlast their caller."""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent import futures
from typing import Any

from redlane._core import TimeoutError as RedlaneTimeoutError
from redlane._logging import get_logger

__all__ = ["Workers", "call_limited", "submit_refresh"]


class Workers:
    """Daemon threads that run jobs, oldest first: started when none is idle, up to a
    limit; ended when idle for `idle` seconds, and when the program ends.

    A job runs in a copy of the context that it was submitted in. After a fork the child
    has neither threads nor jobs of its parent.
    """

    def __init__(
        self, name: str, limit: int, waiting: int = 1000, idle: float = 10.0
    ) -> None:
        self._name = name
        self._limit = limit
        self._waiting = waiting
        self._idle_for = idle
        self._forget()
        os.register_at_fork(after_in_child=self._forget)
        atexit.register(self.stop)

    def _forget(self) -> None:
        # A finalizer or a signal handler that runs while this thread has the lock may
        # submit a job too.
        self._changed = threading.Condition(threading.RLock())
        self._jobs: deque[Callable[[], object]] = deque()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._stopped = False

    def submit(self, job: Callable[[], object]) -> bool:
        """False when no thread can be had and when too many jobs wait: the job will not
        run. What a job raises is lost."""
        context = contextvars.copy_context()
        with self._changed:
            if self._stopped or len(self._jobs) >= self._waiting:
                return False
            if len(self._jobs) >= self._idle and len(self._threads) < self._limit:
                self._start_thread()
            if not self._threads:
                return False
            self._jobs.append(lambda: context.run(job))
            self._changed.notify()
        return True

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:  # no more threads, or the interpreter is about to end
            self._threads.discard(thread)
        except BaseException:  # a signal handler's
            if thread.ident is None:
                self._threads.discard(thread)
            raise

    def has(self, thread: threading.Thread) -> bool:
        return thread in self._threads

    def _run(self) -> None:
        here = threading.current_thread()
        while True:
            job = self._next_job(here)
            if job is None:
                return
            with contextlib.suppress(BaseException):  # whoever waits for it was told
                job()
            del job

    def _next_job(self, here: threading.Thread) -> Callable[[], object] | None:
        end = time.monotonic() + self._idle_for
        with self._changed:
            self._idle += 1
            while not self._jobs and not self._stopped:
                left = end - time.monotonic()
                if left <= 0:
                    break
                self._changed.wait(left)
            self._idle -= 1
            if self._jobs and not self._stopped:
                return self._jobs.popleft()
            self._threads.discard(here)
            return None

    def stop(self, seconds: float = 0.5) -> None:
        """Ends the idle threads; those that run a job are waited for no longer than
        that, and end with the process."""
        end = time.monotonic() + seconds
        with self._changed:
            self._stopped = True
            jobs, self._jobs = self._jobs, deque()
            self._changed.notify_all()
            threads = list(self._threads)
        del jobs  # what they hold may do anything as it goes
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))


# So many functions run at a time; a further call waits for a thread, in its own time.
LIMITED = Workers("redlane-limited", 64, waiting=1 << 20)


# Functions whose results are refreshed while their callers have the old ones. Few: a
# refresh has time, and should not take the processor from those who wait.
REFRESHERS = Workers("redlane-refresh", 4)


def submit_refresh(job: Callable[[], object]) -> bool:
    return REFRESHERS.submit(job)


class _Call(futures.Future[Any]):
    """The result of a limited call, to be."""

    def __init__(self, work: Callable[[], Any], shown: str) -> None:
        super().__init__()
        self._work = work
        self._shown = shown
        self.abandoned = False  # the caller has gone

    def run(self) -> None:
        if not self.set_running_or_notify_cancel():
            return
        try:
            self.set_result(self._work())
        except BaseException as error:  # noqa: BLE001 - the caller's, whatever it is
            self.set_exception(error)
            if self.abandoned:
                get_logger().warning(
                    "%s: failed after its hard_timeout: %s",
                    self._shown,
                    type(error).__name__,
                    extra={"event": "redlane.cache.failed_late"},
                )


def _await(call: _Call, seconds: float) -> Any:
    """The result, or futures.TimeoutError. In slices: a signal that comes just before a
    wait does not end it, and Ctrl-C should not wait for long."""
    end = time.monotonic() + seconds
    while True:
        left = end - time.monotonic()
        try:
            return call.result(max(0.0, min(left, 0.1)))
        except futures.TimeoutError:
            if left <= 0.1 or call.done():
                raise


def call_limited(
    work: Callable[..., Any], seconds: float, shown: str, /, *args: Any, **kwargs: Any
) -> Any:
    """`work(*args, **kwargs)` on a worker thread, waited for so long.

    Raises:
        TimeoutError: the time is over. The work goes on, unless no thread was found for
            it by then.
        What the work raises.
    """
    call = _Call(lambda: work(*args, **kwargs), shown)
    # A limited function that another one calls runs in that one's thread, in its time.
    if LIMITED.has(threading.current_thread()) or not LIMITED.submit(call.run):
        return work(*args, **kwargs)
    try:
        return _await(call, seconds)
    except futures.TimeoutError:
        if call.done():  # the work's own, or just in time
            return call.result()
        if call.cancel():
            why = "no worker thread was free"
        else:
            call.abandoned = True
            why = "it goes on, and its result will be stored"
        raise RedlaneTimeoutError(
            f"{shown}: no result within hard_timeout ({seconds:g} s): {why}"
        ) from None
    except BaseException:
        if not (call.cancel() or call.done()):
            call.abandoned = True
        raise
    finally:
        del call  # an exception's traceback would hold it, and it the exception
