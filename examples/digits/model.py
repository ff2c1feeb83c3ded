"""Handwritten digits: how an image becomes features, and the model that reads them."""

import keras
import tensorflow_transform as tft

SIDE = 8
CLASSES = 10


def preprocessing_fn(inputs):
    """Scales pixels to mean 0 and variance 1 over the window; this is part of the served model.

    Input: `image` float32 [batch, 64], 0 (paper) to 16 (ink). Output: `pixels` float32 [batch, 64].
    """
    return {"pixels": tft.scale_to_z_score(inputs["image"])}


def build_model(transform_output):
    """A small convolutional network.

    Input: `pixels` float32 [batch, 64]. Output: class probabilities float32 [batch, 10].
    """
    pixels = keras.Input((SIDE * SIDE,), name="pixels")
    x = keras.layers.Reshape((SIDE, SIDE, 1))(pixels)
    x = keras.layers.Conv2D(24, 3, padding="same", activation="relu")(x)
    x = keras.layers.MaxPooling2D()(x)
    x = keras.layers.Conv2D(48, 3, padding="same", activation="relu")(x)
    x = keras.layers.Flatten()(x)
    x = keras.layers.Dropout(0.3)(x)
    x = keras.layers.Dense(64, activation="relu")(x)
    return keras.Model({"pixels": pixels}, keras.layers.Dense(CLASSES, activation="softmax")(x))
