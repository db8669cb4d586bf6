"""The conductor: reads a source, has it protected and verified, and writes the release."""

__version__ = "0.1.0"
