from __future__ import annotations

import subprocess
import sys

CODE = """
from fbkit.train.vision import import_torchvision
torchvision = import_torchvision()
assert import_torchvision() is torchvision
import torch, torchvision.models, torchvision.datasets
from torchvision.transforms import Resize
model = torchvision.models.mobilenet_v2().eval()
print(tuple(model(torch.zeros(1, 3, 32, 32)).shape), tuple(Resize(8)(torch.zeros(3, 16, 16)).shape))
"""


def test_torchvision_imports_and_its_classifiers_work_whatever_build_of_torch_it_was_made_for() -> None:
    result = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=False)
    assert result.stdout.strip() == "(1, 1000) (3, 8, 8)", result.stderr
