"""Experts: noise predictors eps_hat(z, gamma), the bundled ones, and the user's own."""
