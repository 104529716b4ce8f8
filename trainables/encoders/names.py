"""Names of the encoders, in a file of their own because it needs no torch."""

ENCODERS = ("conv4", "resnet18", "resnet50")
