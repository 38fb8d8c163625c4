"""`python -m calibration` is `llm-calibrate`."""

from calibration.cli.main import main

main()
