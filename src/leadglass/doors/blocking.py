"""How do threads walk the path? The gateway's coroutines await only each other and stages that block, so one `send` runs them through."""

from __future__ import annotations

from collections.abc import Coroutine
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine of the gateway to its end in this thread (ADR 0001). A stage that really suspends is a programming error."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coroutine.close()
    raise RuntimeError("a blocking stage suspended: it belongs under an event loop, not under threads")


class Entered(Generic[T]):
    """An async context of the gateway, entered from a thread; another thread may leave it."""

    def __init__(self, context: AbstractAsyncContextManager[T]) -> None:
        self._context = context

    def __enter__(self) -> T:
        return run(self._context.__aenter__())

    def leave(self, error: Exception | None) -> None:
        """Leaves the context, because of `error` where there is one; the error goes no further."""
        try:
            self.__exit__(type(error) if error else None, error, None)
        except Exception as raised:
            if raised is not error:
                raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return run(self._context.__aexit__(kind, error, trace))
