"""What the training steps share: the input pipeline, the loop and the export."""
