"""From DeepMimic's motions to the humanoid's clips and its standing pose."""
