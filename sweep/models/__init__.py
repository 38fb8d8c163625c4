"""From a published config.json to the kernel's blocks."""
