"""Sparse autoencoders: training, files, a light encoder and controls."""
