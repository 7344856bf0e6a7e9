"""The log of outcomes: the results topic read back, for the command line and the page."""
