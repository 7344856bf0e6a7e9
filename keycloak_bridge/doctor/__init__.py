"""Look at everything that the bridge needs, one probe at a time, and say what is wrong and how to mend it."""
