"""START HERE: what happens to one record, from its bytes to its result.

Read in this order:

1. `provision.py`: `ProvisionStage.handle` takes a record of the events topic to a user in Keycloak and a result.
2. `interpret.py`: `Interpreter.interpret` turns the record into a desired user: decode, validate, map. `run` and every
   preview share it.
3. `invite.py`: `InviteStage.handle` takes a record of the invitations topic to a mail. The provision stage writes these
   records.

(`preview.py` is for commands such as `plan`: the same way up to the first write.)

Where a record comes from: `ConsumerLoop` (`delivery/consumer_loop.py`) polls Kafka, queues records by `ordering_key`, so
that those of one user keep their order, and the threads of `WorkerPool` (`delivery/worker_pool.py`) call `handle`. Where it
goes: a `Writer` (`provisioning/writer.py`) writes the user, either at once (`SingleWriter`; `Provisioner` in
`provisioning/provisioner.py`: find, plan, execute) or in a batch (`BulkWriter` in `provisioning/bulk_writer.py`), and returns
the future of what became of it; on that hang the result and the dead letter (`ResultPublisher`, `delivery/results.py`). The
future that `handle` returns has what Kafka must acknowledge; then the offset of the record is committed.
"""
