"""Motion clips: their format, kinematics and data sets."""
