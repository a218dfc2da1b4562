"""`python -m asr` is the command line."""

from asr.cli.main import main

main()
