"""The page: what the bridge does, in a browser, from what the process knows and what the results topic says."""
