"""Small helpers of every module."""
