"""What may be asked of a server, noun by noun: the methods of `deployer.client.Client`.

Each module has the calls about one noun; all of them go through the one session of a client.
"""
