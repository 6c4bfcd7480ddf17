"""A message to a service, in the form that Slack's webhooks take."""

from __future__ import annotations

import json
import os
import urllib.request
from collections.abc import Iterator
from typing import Annotated, ClassVar

from pydantic import Field

from ampel_spark.errors import ConfigError
from ampel_spark.t3.sample import Sample
from ampel_spark.t3.unit import Message, Output, T3Unit

__all__ = ["Webhook"]

#: Seconds that the service has to answer.
_PATIENCE = 10.0


class Webhook(T3Unit):
    """Send one message about the candidates, and show in the report what was sent.

    It runs where a job names it, and never in ``rerun``, ``reproduce`` or a variation.
    """

    address_in: str
    "Environment variable that holds the address, which is a secret: a job is kept, and shown."
    text: str = "{n} candidates of {selection} in run {run}"
    "The message: {n}, {selection}, {channel} and {run} are put in."
    names: Annotated[int, Field(ge=0, le=50)] = 10
    "So many names of candidates are added."

    outward: ClassVar[bool] = True

    def process(self, sample: Sample) -> Iterator[Output]:
        """Send the message."""
        address = os.environ.get(self.address_in, "")
        if not address.startswith("https://"):
            raise ConfigError(
                f"the environment variable {self.address_in} holds no address that begins with"
                " https://: set it where the job runs"
            )
        run_id = "" if sample.run is None else sample.run.run_id
        text = self.text.format(
            n=len(sample), selection=sample.name, channel=sample.channel, run=run_id
        )
        shown = sample.names[: self.names]
        if shown:
            more = len(sample) - len(shown)
            text += ": " + ", ".join(shown) + (f" and {more} others" if more else "")
        _post(address, {"text": text})
        yield Message(f"sent: {text}")


def _post(address: str, content: dict[str, str]) -> None:
    request = urllib.request.Request(
        address, json.dumps(content).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=_PATIENCE) as answer:
        answer.read(1)
