"""The models of a server: what was replaced is let go of."""

import asyncio
import gc
import threading
import weakref
from pathlib import Path

from rehead.serving.metrics import ServerMetrics
from rehead.serving.models import Models, parse
from rehead.serving.settings import RequestLimits


def test_a_version_is_gone_when_its_last_request_is_answered(spam: Path) -> None:
    """Whether or not the garbage collector looks at it: what was loaded is taken out of its rounds."""

    async def scenario() -> bool:
        go_on = threading.Event()
        models = Models(parse([str(spam)]), RequestLimits(), ServerMetrics())
        try:
            await models.load()
            for _ in range(models._at_once):
                models._threads.submit(go_on.wait, 30)  # nothing is scored meanwhile
            old = models.versions[0]
            asking = asyncio.create_task(old.batcher.scores(["win free cash"] * 200))
            await asyncio.sleep(0.05)
            await models.load()
            seen = weakref.ref(old)
            del old
            assert not asking.done()
            go_on.set()
            assert len((await asking).probabilities) == 200
            del asking
            await asyncio.sleep(0.1)
            return seen() is None
        finally:
            go_on.set()
            models.close()

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(scenario())
    finally:
        gc.enable()
