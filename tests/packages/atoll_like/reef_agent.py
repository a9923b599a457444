"""What ATOLL's runner would load; it is no program."""


class ReefAgent:
    """An agent that says what it hears."""

    def process(self, message):
        return message
