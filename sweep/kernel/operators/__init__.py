"""One file per operator: pure functions from sizes to a `Cost`; no machine, no model."""
