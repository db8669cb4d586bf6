"""Verifying what is published already, by whom it may be, and choosing among methods."""
