"""Select, filter and reduce results."""
