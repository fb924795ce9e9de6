"""What can be wrong with recordings and what is made of them."""


class NeuralError(ValueError):
    """A session, an activity file or a comparison cannot be used; one line says why."""
