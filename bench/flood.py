"""Fill a topic with many distinct events, fast: `python -m bench.flood BOOTSTRAP TOPIC TAG COUNT`."""

import sys
from typing import Any

from kafka import KafkaProducer

from bench.crowd import events

_PORTION = 2000


def main(bootstrap: str, topic: str, tag: str, count: str) -> None:
    """Publish `count` events that no other tag has."""
    producer: Any = KafkaProducer(
        bootstrap_servers=bootstrap, acks=1, linger_ms=50, batch_size=256 * 1024
    )
    left = int(count)
    try:
        while left > 0:
            for key, value in events(f"{tag}{left}x", min(_PORTION, left)):
                producer.send(topic, key=key, value=value)
            left -= _PORTION
        producer.flush()
    finally:
        producer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
