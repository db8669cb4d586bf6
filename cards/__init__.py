"""The dataset card and its pictures: says only what was measured."""
