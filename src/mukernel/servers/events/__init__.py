"""The event server: publish and subscribe on topics, plain or kept in a log on the disk."""

from .client import Event, EventClient, Topic
from .interface import (
    Batch,
    Delivery,
    EventFigures,
    Events,
    GroupFigures,
    LogDamaged,
    Published,
    StreamFigures,
    Subscription,
)
from .server import EventServer
from .settings import StreamSettings

__all__ = [
    "Batch",
    "Delivery",
    "Event",
    "EventClient",
    "EventFigures",
    "EventServer",
    "Events",
    "GroupFigures",
    "LogDamaged",
    "Published",
    "StreamFigures",
    "StreamSettings",
    "Subscription",
    "Topic",
]
