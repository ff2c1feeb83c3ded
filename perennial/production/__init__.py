"""Production: arms, the prediction log, labels that come late, and the A/B test."""
