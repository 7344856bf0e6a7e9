"""JMESPath expressions with the functions of the bridge."""
