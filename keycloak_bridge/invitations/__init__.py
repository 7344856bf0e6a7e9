"""Whether, when and how an invitation is mailed."""
