"""The command line as ``python -m deployer.cli``, where no console script is installed."""

from deployer.cli import main

main(prog_name="atoll-deployer")
