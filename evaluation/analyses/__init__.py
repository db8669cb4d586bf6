"""What can be learnt about a release besides whether victims fail on it; one file each."""

from evaluation.analyses.base import Analysis, Findings, Material, analyses, parse, register

__all__ = ["ANALYSES", "Analysis", "Findings", "Material", "parse", "register"]

ANALYSES = analyses()
"""The seam: an analysis is parameters that turn the images of a release into findings.

It enters by one `register` call in its own file of this package and is written
`NAME` or `NAME:FIELD=VALUE,FIELD=VALUE`, such as `linear-separability:outer=500`; several nets in
one value are joined by a plus sign, `premise:nets=vgg-w16+resnet10-w16`.
"""
