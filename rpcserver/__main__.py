"""`python -m rpcserver` is `rpcserver`."""

from rpcserver.cli.main import main

main()
