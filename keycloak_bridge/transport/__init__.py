"""HTTP as the bridge speaks it to the services that it calls."""
