"""From the bytes of a Kafka record to a CloudEvent."""
