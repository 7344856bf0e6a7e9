"""HTTP and TLS as the bridge speaks them to the services that it calls."""
