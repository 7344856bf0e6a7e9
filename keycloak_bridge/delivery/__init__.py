"""At-least-once delivery: consumer loop, per-key queues, offsets, retries and guards."""
