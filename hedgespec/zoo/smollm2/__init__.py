"""Drafters for SmolLM2-135M-Instruct, shipped with the package; the target itself is fetched (`hedgespec models get`)."""
