"""`python -m calibration` is `llm-calibrate`."""

from calibration.cli import main

main()
