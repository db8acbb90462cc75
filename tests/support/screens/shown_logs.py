"""A log shown by an inspector."""

from inspectors import settled


async def shown(pilot, log, **changes):
    """A log on the screen of an app without an engine."""
    app = pilot.app
    app.show(log=log, knobs=log.knobs, vectors=log.vectors, **changes)
    await settled(app, pilot)
    app.sent.clear()
    return app
