"""What the server costs, against the bare floor measured in the same run: `make bench`."""
