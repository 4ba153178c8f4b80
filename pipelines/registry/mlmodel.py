"""The bundle as an MLflow model: the file `MLmodel`, by which `mlflow models serve` finds what answers from it.

It names a module of nightrank (`pipelines.verbs.serving`), so that no code and no pickle lies in a bundle. A night
reads the other files of the bundle, and never this one.
"""

import json
import platform
from importlib.metadata import version

import polars as pl
import yaml

from features.log.event_log import EventLog

__all__ = ["LOADER", "MLMODEL", "mlmodel"]

MLMODEL = "MLmodel"
LOADER = "pipelines.verbs.serving"
"""The module that MLflow loads the model by. Bundles name it for ever: it must not move."""


def mlmodel(log: EventLog) -> str:
    """The content of `MLmodel` for a version that was trained on a log: its loader, and what goes in and comes out."""
    user, item = _type_of(log.user_ids.dtype), _type_of(log.items.schema["item_id"])
    inputs = [_column("user_id", user), _column("k", "long", required=False)]
    outputs = [("user_id", user), ("rank", "long"), ("item_id", item), ("score", "double"), ("fallback", "boolean")]
    content = {
        "flavors": {
            "python_function": {
                "loader_module": LOADER,
                "python_version": platform.python_version(),
                "config": {"config": "", "date": ""},  # the keys that `model_config` may set
            }
        },
        "mlflow_version": version("mlflow"),
        "signature": {
            "inputs": json.dumps(inputs),
            "outputs": json.dumps([_column(*output) for output in outputs]),
            "params": None,
        },
    }
    return yaml.safe_dump(content, sort_keys=True)


def _column(name: str, kind: str, *, required: bool = True) -> dict[str, object]:
    return {"name": name, "type": kind, "required": required}


def _type_of(dtype: pl.DataType) -> str:
    """MLflow's name of the type of ids."""
    return "long" if dtype.is_integer() else "string"
