"""Pictures of what `hedgespec bench policies` and `hedgespec simulate study` have measured, from their JSON files."""
