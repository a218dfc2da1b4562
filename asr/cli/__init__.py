"""The command line: `main` is the program, `app` its commands, one module for each.

What several commands need stands in `options`, `messages` and `outputs`. Nothing outside uses this package.
"""
