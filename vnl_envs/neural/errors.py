"""The error of the neural commands."""


class NeuralError(ValueError):
    """A session, an activity file or a comparison cannot be used. The message is one line."""
