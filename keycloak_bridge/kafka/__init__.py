"""Consumer, producer, topics and the dead-letter topic on kafka-python."""
