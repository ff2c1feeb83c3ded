"""Names of what training leaves in a step's folder."""

SAVED_MODEL = "saved_model"
WEIGHTS_FILE = "weights.npz"
# Curves for TensorBoard.
LOGS = "logs"
