"""What `nightrank monitor` looks at."""

from pydantic import Field

from features.frozen import FrozenConfig, Owner

__all__ = ["MonitorConfig"]


class MonitorConfig(FrozenConfig):
    """What is watched of the published nights."""

    owner = Owner.TONIGHT

    nights: int = Field(default=60, ge=1, description="Latest published nights that are judged and shown.")
