"""``python -m edgetf`` is the same as ``edgetf``."""

from edgetf.cli import main

main()
