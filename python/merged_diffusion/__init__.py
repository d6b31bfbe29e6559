"""Exact likelihood of images under merged pretrained diffusion experts."""
