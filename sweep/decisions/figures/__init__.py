"""Pictures of decisions."""
