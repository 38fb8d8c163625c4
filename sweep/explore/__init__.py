"""The live page: pictures of a report whose numbers the engine computes at each change."""
