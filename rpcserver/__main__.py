"""`python -m rpcserver` is `rpcserver`."""

from rpcserver.cli import main

main()
