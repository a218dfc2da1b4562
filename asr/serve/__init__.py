"""The server of `asr serve`: `app` (routes), `service` (what they share), a module for each protocol, and the page.

Needs the extra `serve`. `asr.serve.app.Server` runs it.
"""
