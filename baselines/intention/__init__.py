"""Imitation through a bottleneck: an encoder from observations to a latent, the intention, and a
decoder from the intention and the proprioception to actions.

Merel et al. 2019, "Neural probabilistic motor primitives for humanoid control" (arXiv 1811.11711);
Aldarondo et al. 2024, "A virtual rodent predicts the structure of neural activity across
behaviours" (Nature 632).
"""

LATENT = 60
"""Size of the latent in both papers."""
