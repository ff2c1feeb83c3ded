"""Real taxi trips as examples, with every feature function in one `preprocessing_fn`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ROWS = 300
PAST = 5

SCHEMA = """\
feature { name: "id" type: BYTES presence { min_fraction: 1 } shape {} not_in_environment: "SERVING" }
feature { name: "tipped" type: INT presence { min_fraction: 1 } shape {} not_in_environment: "SERVING" }
feature { name: "started_at" type: BYTES presence { min_fraction: 1 } shape {} }
feature { name: "started" type: INT presence { min_fraction: 1 } shape {} }
feature { name: "fare" type: FLOAT presence { min_fraction: 1 } shape {} }
feature { name: "payment" type: BYTES presence { min_fraction: 1 } shape {} }
feature { name: "company" type: BYTES value_count { min: 1 max: 1 } }
feature { name: "miles" type: FLOAT value_count { min: 1 max: 1 } }
feature { name: "past_times" type: INT presence { min_fraction: 1 } shape { dim { size: 5 } } }
feature { name: "past_amounts" type: FLOAT presence { min_fraction: 1 } shape { dim { size: 5 } } }
default_environment: "TRAINING"
default_environment: "SERVING"
tensor_representation_group {
  key: ""
  value {
    tensor_representation {
      key: "miles"
      value { dense_tensor { column_name: "miles" shape {} default_value { float_value: -1 } } }
    }
    tensor_representation {
      key: "company"
      value { dense_tensor { column_name: "company" shape {} default_value { bytes_value: "" } } }
    }
  }
}
"""

BODY = """
from perennial import features
seconds = features.epoch_seconds(inputs["started_at"])
parts = features.date_parts(seconds, utc_offset_hours=-6)
company = features.filled(inputs["company"], "none")
past = features.recency_frequency_monetary(
    inputs["past_times"], inputs["past_amounts"], inputs["started"], window_days=365
)
noon_sin, noon_cos = features.cyclic(seconds, 24 * 3600)
return {
    **{f"part_{name}": value for name, value in parts.items()},
    **features.cyclic_date_parts(seconds, utc_offset_hours=-6),
    **{name: tft.scale_to_z_score(value) for name, value in past.items()},
    "noon_sin": noon_sin,
    "noon_cos": noon_cos,
    "fare_log": tft.scale_to_z_score(features.log1p_signed(inputs["fare"])),
    "miles": features.filled(inputs["miles"], 0.0),
    "payment_bucket": features.hashed(inputs["payment"], 16),
    "hour_by_payment": features.crossed(parts["hour"], inputs["payment"], buckets=64),
    "company_word": tft.compute_and_apply_vocabulary(features.normalised_text(company), num_oov_buckets=1),
    "company_tokens": features.tokens(company, 4),
    "company_bag": features.hashed_token_counts(company, 8),
}
"""


def trips(data: Path) -> list[dict[str, Any]]:
    """The first trips of the file, each with its company's past."""
    import pandas as pd

    from perennial.features import entity_history

    frame = pd.read_csv(data, nrows=ROWS)
    rows = pd.DataFrame(
        {
            "id": [f"trip-{number}" for number in range(len(frame))],
            "tipped": (frame["tips"] > 0.2 * frame["fare"]).astype(int),
            "started_at": pd.to_datetime(frame["trip_start_timestamp"], unit="s").dt.strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            ),
            "started": frame["trip_start_timestamp"],
            "fare": frame["fare"].astype(float),
            "payment": frame["payment_type"],
            "company": frame["company"],
            "miles": frame["trip_miles"].where(frame["trip_miles"] > 0),
        }
    )
    rows = entity_history(rows, "company", "started", "fare", PAST)
    return [
        {name: _present(value) for name, value in row.items()} for row in rows.to_dict("records")
    ]


def _present(value: Any) -> Any:
    return None if isinstance(value, float) and value != value else value
