"""A model that plain Python can train, write, read and ask: the line through noisy points.

As a program it is the `train.py` of the pages in docs/guide/, and needs nothing else.
"""

from __future__ import annotations

import argparse
import json
import struct
from pathlib import Path


def train(slope: float, points: int) -> dict[str, list[float]]:
    """Return the least-squares line through noisy points of a line with this slope."""
    xs = [i / points for i in range(points)]
    ys = [slope * x + 1 + 0.05 * ((i * 7919) % 13 - 6) / 6 for i, x in enumerate(xs)]
    mean_x, mean_y = sum(xs) / points, sum(ys) / points
    weight = sum((x - mean_x) * (y - mean_y) for x, y in zip(xs, ys, strict=True)) / sum(
        (x - mean_x) ** 2 for x in xs
    )
    return {"weight": [weight], "bias": [mean_y - weight * mean_x]}


def save(model: dict[str, list[float]], path: Path) -> None:
    """Write a model as safetensors: eight bytes of header size, a JSON header, the numbers."""
    header: dict[str, object] = {}
    data = b""
    for name, values in model.items():
        raw = struct.pack(f"<{len(values)}d", *values)
        header[name] = {
            "dtype": "F64",
            "shape": [len(values)],
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def load(path: Path) -> dict[str, list[float]]:
    """Return the model in a safetensors file of 64-bit floats."""
    raw = path.read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header, data = json.loads(raw[8 : 8 + size]), raw[8 + size :]
    found = {}
    for name, tensor in header.items():
        begin, end = tensor["data_offsets"]
        found[name] = list(struct.unpack(f"<{(end - begin) // 8}d", data[begin:end]))
    return found


def predict(model: dict[str, list[float]], x: float) -> float:
    """Return what the line says at `x`."""
    return model["weight"][0] * x + model["bias"][0]


def main() -> None:
    """Train a model, and write it and what it was where the training job is told to."""
    parser = argparse.ArgumentParser(description="fit a line")
    parser.add_argument("--out", type=Path, help="the file to write the model to")
    parser.add_argument("--run", type=Path, help="the run's folder, for model and run.toml")
    parser.add_argument("--points", type=int, default=200)
    options = parser.parse_args()
    model = train(2.0, options.points)
    if options.out:
        save(model, options.out)
    if options.run:
        save(model, options.run / "model.safetensors")
        said = _REPORT.format(points=options.points, error=abs(predict(model, 0.5) - 2.0))
        (options.run / "run.toml").write_text(said)


_REPORT = """\
[params]
points = {points}

[metrics]
error = {error:.6f}

[directions]
error = "min"
"""


if __name__ == "__main__":
    main()
