"""The models of a server: what was replaced is let go of."""

import asyncio
import gc
import weakref
from pathlib import Path

from rehead.serving.metrics import Metrics
from rehead.serving.models import Models, parse
from rehead.serving.settings import Limits


def test_a_version_is_gone_when_its_last_request_is_answered(spam: Path) -> None:
    """Whether or not the garbage collector looks at it: what was loaded is taken out of its rounds."""

    async def scenario() -> tuple[bool, bool]:
        models = Models(parse([str(spam)]), Limits(), Metrics())
        try:
            await models.load()
            old = models.versions[0]
            asking = asyncio.create_task(old.batcher.scores(["win free cash"] * 200))
            await asyncio.sleep(0)
            await models.load()
            seen = weakref.ref(old)
            del old
            in_use = seen() is not None or not asking.done()
            scores = await asking
            assert len(scores.probabilities) == 200
            del asking, scores
            await asyncio.sleep(0.1)
            return in_use, seen() is None
        finally:
            models.close()

    gc.collect()
    gc.disable()
    try:
        assert asyncio.run(scenario()) == (True, True)
    finally:
        gc.enable()
